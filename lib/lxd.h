/* SPDX-License-Identifier: MIT */
/* lxd: what the two halves of the room share: a handle, its requests, and the JSON they answer with. Private. */
#ifndef MIGBUF_LIB_LXD_H
#define MIGBUF_LIB_LXD_H
#include "json.h"
#include "lxd_http.h"
#include "text.h"

/* Longest path with its query, longest body. Names have at most 127 bytes, three times that when escaped. */
#define MIGBUF__LXD_PATH 2048
#define MIGBUF__LXD_BODY 8192

struct migbuf_lxd {
    struct migbuf__http http;
    struct migbuf_allocator allocator;
    struct migbuf__json *reply;         /* of the last call, whole */
    const struct migbuf__json *metadata; /* in it */
    struct migbuf__json *root;          /* metadata of GET /1.0: facts and API extensions */
    const struct migbuf__json *extensions;
    uint64_t deadline_ms;
    char project[MIGBUF_LXD_NAME], target[MIGBUF_LXD_NAME];
    char said[MIGBUF__HTTP_WORDS]; /* printable */
};

/* A URL under way. */
struct migbuf__lxd_path {
    struct migbuf__writer w;
    char text[MIGBUF__LXD_PATH];
};

/* Begins "/1.0" + what follows; name adds "/" and an escaped component, query "?key=value" or "&key=value" (value NULL
 * or "": nothing is added). */
void migbuf__lxd_path(struct migbuf__lxd_path *p, const char *path);
void migbuf__lxd_path_name(struct migbuf__lxd_path *p, const char *name);
/* What the server said of itself: metadata.environment of /1.0. */
const struct migbuf__json *migbuf__lxd_environment(const struct migbuf_lxd *lxd);

void migbuf__lxd_path_query(struct migbuf__lxd_path *p, const char *key, const char *value);

/* Whom to ask for what lies on one member of a cluster, "" where there is none. Never nobody there: a server that is not told
 * whom looks for the volume on all members, and refuses one that several have. */
const char *migbuf__lxd_target(const struct migbuf_lxd *lxd);

/* Begins a call of `timeout_ms`. Every typed call does this first. */
int migbuf__lxd_begin(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_error *error);

/* One request within it; the end of its operation is awaited. 0, and then lxd->metadata, or a shared error. */
int migbuf__lxd_ask(struct migbuf_lxd *lxd, const char *method, const struct migbuf__lxd_path *path, const char *body,
                    struct migbuf_error *error);

/* The same for what is answered as plain text: GET, and the text until the next request. */
int migbuf__lxd_ask_text(struct migbuf_lxd *lxd, const struct migbuf__lxd_path *path, const char **text, size_t *length,
                         struct migbuf_error *error);

/* Is this a name? And may this stand in a JSON text? Both servers turn what is no UTF-8 into something else unasked. */
int migbuf__lxd_name(const char *name, struct migbuf_error *error);
int migbuf__lxd_value(const char *text, struct migbuf_error *error);

/* Reading. Members that are missing or of another type leave "" and 0; so does a text with a NUL in it. */
const char *migbuf__lxd_text(const struct migbuf__json *object, const char *key);
int migbuf__lxd_copy(char *out, size_t size, const char *text, struct migbuf_error *error);
uint64_t migbuf__lxd_number(const struct migbuf__json *object, const char *key);
/* "10GiB" -> bytes; 0 for what is no size. */
uint64_t migbuf__lxd_size(const char *text);
#endif
