/* Commands in, replies out, over the model of the keyspace: for trying the commands by hand or by
 * a script, without a server. COMMAND INFO name is answered too.
 *
 * Input, line by line: the database, the time in milliseconds, then the arguments, all in
 * hexadecimal behind one blank each ("-" for an empty argument). Output: the neutral reply, in
 * hexadecimal, one line a command. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/reply.h"
#include "fake_keyspace.h"
#include "store/commands.h"

static size_t decode_hex(char *hex) {
    size_t n = 0;
    for (char pair[3] = {0}; hex[2 * n] && hex[2 * n + 1]; n++) {
        memcpy(pair, hex + 2 * n, 2);
        hex[n] = (char)strtoul(pair, NULL, 16);
    }
    return n;
}

int main(void) {
    struct keyspace *ks = fake_keyspace_new();
    char *line = NULL;
    size_t line_capacity = 0;
    uint64_t revision = 0;
    struct slice args[4096];
    struct buf out = {0};
    while (getline(&line, &line_capacity, stdin) > 0) {
        char *rest = line;
        uint16_t db = (uint16_t)strtoul(strsep(&rest, " \n"), NULL, 10);
        uint64_t now_ms = strtoull(strsep(&rest, " \n"), NULL, 10);
        struct argv argv = {.args = args};
        for (char *word; argv.count < ARRAY_COUNT(args) && (word = strsep(&rest, " \n")) && *word;)
            args[argv.count++] =
                strcmp(word, "-") == 0 ? slice_of(word, 0) : slice_of(word, decode_hex(word));
        revision += 1 << 20;
        fake_keyspace_begin(ks, now_ms, revision, revision);
        buf_reset(&out);
        const struct command *named = argv.count == 3 ? command_find(args[2]) : NULL;
        if (named && slice_equal_nocase(args[0], "command")) {
            reply_array(&out, 1);
            command_info_append(&out, named);
        } else {
            uint64_t before = fake_keyspace_digest(ks);
            CHECK(command_execute(ks, db, &argv, &out) == 0);
            /* A command that answers an error has changed nothing. */
            if (reply_is_error(buf_slice(&out)))
                CHECK(before == fake_keyspace_digest(ks));
        }
        for (size_t i = 0; i < out.size; i++)
            printf("%02x", out.data[i]);
        printf("\n");
        fflush(stdout);
    }
    buf_fini(&out);
    free(line);
    fake_keyspace_free(ks);
    return 0;
}
