/* SPDX-License-Identifier: MIT */
/* Writes names into a file's name and reads them back. See saved.h. */
#include "saved.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char suffix[] = ".limits";
static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

static char *put(char *at, const char *end, const char *name)
{
    for (; *name && end - at > 3; name++)
        at += snprintf(at, (size_t)(end - at), strchr(plain, *name) ? "%c" : "%%%02X", (unsigned char)*name);
    return at;
}

void saved_name(const char *project, const char *vm, char out[SAVED_NAME])
{
    char *at = put(out, out + SAVED_NAME - sizeof suffix - 1, project);

    *at++ = ':';
    at = put(at, out + SAVED_NAME - sizeof suffix, vm);
    memcpy(at, suffix, sizeof suffix);
}

/* One name of `length` bytes; false for one that put() does not make. */
static bool take(const char *text, size_t length, char out[MIGBUF_LXD_NAME])
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        char hex[3] = "";
        int c = (unsigned char)text[i];

        if (c == '%') {
            if (length - i < 3 || !isxdigit((unsigned char)text[i + 1]) || !isxdigit((unsigned char)text[i + 2]))
                return false;
            memcpy(hex, text + i + 1, 2);
            c = (int)strtol(hex, NULL, 16);
            i += 2;
        } else if (!strchr(plain, c)) {
            return false;
        }
        if (!c || n + 1 >= MIGBUF_LXD_NAME)
            return false;
        out[n++] = (char)c;
    }
    out[n] = 0;
    return n > 0;
}

bool saved_whose(const char *file, char project[MIGBUF_LXD_NAME], char vm[MIGBUF_LXD_NAME])
{
    size_t length = strlen(file), tail = sizeof suffix - 1, colon = strcspn(file, ":");

    return length > tail && !strcmp(file + length - tail, suffix) && colon < length - tail &&
           take(file, colon, project) && take(file + colon + 1, length - tail - colon - 1, vm);
}
