#include "replica/log_slots.h"

#include <errno.h>
#include <stdlib.h>

int log_slots_open(struct log_slots *s, uint64_t ret_fields[LOG_SLOT_FIELDS]) {
    uint64_t bytes = 0;
    int r = s->disk->ops->open(s->disk, s->name, &s->file, &bytes);
    if (r < 0) {
        s->file = NULL;
        return r;
    }
    struct log_slot slots[2];
    bool good[2] = {false, false};
    for (unsigned i = 0; i < 2 && bytes == LOG_SLOT_FILE_BYTES; i++) {
        uint8_t raw[LOG_SLOT_BYTES];
        int64_t n = s->disk->ops->read(s->disk, s->file, i * LOG_SLOT_PITCH, raw, sizeof raw);
        if (n < 0)
            return (int)n;
        good[i] = n == sizeof raw && log_slot_get(raw, s->magic, &slots[i]);
    }
    if (!good[0] && !good[1])
        return -EBADMSG;
    unsigned newest = good[1] && (!good[0] || slots[1].counter > slots[0].counter);
    s->first = !newest;
    s->mark = slots[newest].mark;
    s->counter = slots[newest].counter;
    memcpy(ret_fields, slots[newest].fields, sizeof slots[newest].fields);
    return 0;
}

int log_slots_replace(struct log_slots *s, const uint64_t fields[LOG_SLOT_FIELDS],
                      struct disk_file **ret_old) {
    struct log_slot slot = {.mark = s->mark, .counter = s->counter + 1};
    memcpy(slot.fields, fields, sizeof slot.fields);
    uint8_t *content = xcalloc(1, LOG_SLOT_FILE_BYTES);
    log_slot_put(content, s->magic, &slot);
    log_slot_put(content + LOG_SLOT_PITCH, s->magic, &slot);
    int r = s->disk->ops->replace_sync(s->disk, s->name, slice_of(content, LOG_SLOT_FILE_BYTES));
    free(content);
    struct disk_file *file = NULL;
    uint64_t bytes = 0;
    if (r == 0)
        r = s->disk->ops->open(s->disk, s->name, &file, &bytes);
    if (r < 0)
        return r;
    *ret_old = s->file;
    s->file = file;
    s->counter++;
    s->first = 0;
    return 0;
}

int log_slots_write(struct log_slots *s, const uint64_t fields[LOG_SLOT_FIELDS]) {
    struct log_slot slot = {.mark = s->mark, .counter = s->counter + 1};
    memcpy(slot.fields, fields, sizeof slot.fields);
    uint8_t raw[LOG_SLOT_BYTES];
    log_slot_put(raw, s->magic, &slot);
    for (unsigned i = 0; i < 2; i++) {
        int r = s->disk->ops->write_sync(s->disk, s->file, (s->first ^ i) * LOG_SLOT_PITCH,
                                         slice_of(raw, sizeof raw));
        if (r < 0)
            return r;
    }
    s->counter++;
    s->first = 0;
    return 0;
}

void log_slots_close(struct log_slots *s) {
    if (s->file)
        s->disk->ops->close(s->disk, s->file);
    s->file = NULL;
}
