/* Media types by file name, from a table of our own (mime_table.h): the same on every machine that
 * builds, and nothing to install where it runs. docs/decisions/0018 says why.
 *
 * Texts get "; charset=utf-8": that is what sites are written in, and without it browsers guess.
 */
#pragma once
#include "base/slice.h"

/* A whole Content-Type value, static; "application/octet-stream" when the name says nothing. Of
 * "/a/b.tar.gz" only "gz" counts; without case. A name that only begins with a dot has no
 * extension. */
const char *mime_type(struct slice path);
/* The extension without its dot, borrowed; empty when there is none. */
struct slice mime_extension(struct slice path);
/* Is it worth compressing? True for texts and for binary formats without compression of their own
 * (wasm, fonts in ttf, svg, ...), by the type that mime_type() gives. */
bool mime_is_compressible(const char *type);
/* Is it a page, as "text/html" or "application/xhtml+xml" is? */
bool mime_is_html(const char *type);
