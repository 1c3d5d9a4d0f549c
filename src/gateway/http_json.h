/* Neutral replies (base/reply.h) taken apart and written as JSON; and what bodies of JSON may be.
 */
#pragma once
#include "base/reply.h"
#include "proto/json_out.h"

enum { HTTP_JSON_VALUES_MAX = 1 << 21 };
/* Whether a text in JSON has at most so many values, told without parsing it: a parsed value takes
 * up to eighty times the memory of its text. For bodies that may be large. */
bool http_json_is_moderate(struct slice text);
/* Numbers in rows of a reply, as integers or as decimal text. */
bool http_item_u64(const struct reply_item *item, uint64_t *ret_value);
/* Takes an array of at least `count` plain items off the front of *reply. */
bool http_take_row(struct slice *reply, struct reply_item *items, size_t count);
/* Appends one neutral reply as JSON: maps become objects, errors {"error": text}, bytes that are
 * not UTF-8 {"base64": text}. Takes it off the front of *reply; false when it is malformed. */
bool http_reply_to_json(struct json_out *j, struct slice *reply);
/* "name": "text", or with "name_flag": true the bytes in base64. */
void http_json_bytes(struct json_out *j, const char *name, const char *flag, struct slice bytes);
/* Revisions are strings in JSON: they outgrow the 53 bits of a JavaScript number. */
void http_json_revision(struct json_out *j, uint64_t revision);
