/* What reading a transaction (http_txn.c) hands to answering it (http_txn_answer.c). */
#pragma once
#include "gateway/http_conn.h"

enum txn_op { OP_PUT, OP_DELETE, OP_INCR, OP_GET, OP_REDIS, OP_REDIS_READ };

/* Kept in http_request.data until the answer: how to show the results. */
struct txn_plan {
    size_t then_count;
    size_t else_count;
    uint8_t kinds[]; /* of both branches */
};

/* The answer to KV.TXN; r->data is the plan. */
void http_txn_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                     struct slice reply);
