/* SPDX-License-Identifier: MIT */
/* version: of the library that is running, which may be another than the headers were of. */
#include "migbuf/version.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

int migbuf_version(void)
{
    return MIGBUF_VERSION;
}

const char *migbuf_version_text(void)
{
    return TEXT(MIGBUF_VERSION_MAJOR) "." TEXT(MIGBUF_VERSION_MINOR) "." TEXT(MIGBUF_VERSION_PATCH);
}
