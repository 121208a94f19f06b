/* SPDX-License-Identifier: MIT */
/* lxd_http: one request over a unix socket or https, its reply bounded and whole, its end at a deadline. Private.
 * lxd_http.c is the only file that knows libcurl, and none of its types leave it. */
#ifndef MIGBUF_LIB_LXD_HTTP_H
#define MIGBUF_LIB_LXD_HTTP_H
#include "migbuf/lxd.h"

#define MIGBUF__HTTP_WORDS 512

struct migbuf__http {
    struct migbuf_allocator allocator;
    void *curl, *headers;
    uint64_t max_reply_bytes;
    char *reply; /* of the last request, NUL-terminated */
    size_t reply_bytes, room;
    uint64_t header_bytes;          /* of the last reply, all of them together */
    int failure;                    /* MIGBUF_E_… that made us stop taking a reply */
    char words[MIGBUF__HTTP_WORDS]; /* what libcurl said of the last failure, "" otherwise */
};

/* `options` with defaults filled in. On failure nothing is left behind. */
int migbuf__http_new(struct migbuf__http *h, const char *where, const struct migbuf_lxd_options *options,
                     const struct migbuf_allocator *allocator, struct migbuf_error *error);
void migbuf__http_free(struct migbuf__http *h);

/* `path` is what stands behind the host, escaped; `body` NULL: none. 0 with the HTTP status and h->reply, or an error. What
 * would be more than one request is none: MIGBUF_E_INVALID for a method these servers do not take, and for a path with
 * anything but printable ASCII without blanks in it. A redirection is not followed; h->words is where it points to. */
int migbuf__http_request(struct migbuf__http *h, const char *method, const char *path, const char *body,
                         uint64_t timeout_ms, long *status, struct migbuf_error *error);

/* ms of CLOCK_MONOTONIC, and a pause. */
uint64_t migbuf__http_now_ms(void);
void migbuf__http_sleep_ms(uint32_t ms);
#endif
