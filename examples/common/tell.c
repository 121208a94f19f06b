/* SPDX-License-Identifier: MIT */
/* The two ways to a terminal. See tell.h. */
#include "tell.h"
#include "migbuf/error.h"
#include <stdarg.h>

void tell(FILE *out, const char *format, ...)
{
    char text[4096], line[4 * sizeof text];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    migbuf_printable(text, line, sizeof line);
    fprintf(out, "%s\n", line);
    fflush(out);
}

const char *printable(const char *text, char out[PRINTABLE_SIZE])
{
    migbuf_printable(text, out, PRINTABLE_SIZE);
    return out;
}
