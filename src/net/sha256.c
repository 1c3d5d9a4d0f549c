#include "net/sha256.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "base/check.h"

struct sha256 {
    EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void) {
    struct sha256 *s = xcalloc(1, sizeof *s);
    s->ctx = EVP_MD_CTX_new();
    CHECK(s->ctx != NULL);
    CHECK(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) == 1);
    return s;
}

void sha256_update(struct sha256 *s, struct slice bytes) {
    CHECK(EVP_DigestUpdate(s->ctx, bytes.data, bytes.size) == 1);
}

void sha256_end(struct sha256 *s, uint8_t ret_digest[SHA256_BYTES]) {
    CHECK(EVP_DigestFinal_ex(s->ctx, ret_digest, NULL) == 1);
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

void sha256_of(struct slice bytes, uint8_t ret_digest[SHA256_BYTES]) {
    CHECK(EVP_Digest(bytes.data, bytes.size, ret_digest, NULL, EVP_sha256(), NULL) == 1);
}
