/* SPDX-License-Identifier: MIT */
/* Numbers and texts in SVG. See markup.h. */
#include "markup.h"
#include <math.h>
#include <stdlib.h>

void markup_number(FILE *out, double value)
{
    long tenths = lround(10 * fmax(-1e6, fmin(1e6, value)));

    fprintf(out, "%s%ld", tenths < 0 ? "-" : "", labs(tenths) / 10);
    if (tenths % 10)
        fprintf(out, ".%ld", labs(tenths) % 10);
}

/* Length of the UTF-8 sequence at text, 0 when it is none or a character XML does not allow. */
static size_t character_length(const unsigned char *text)
{
    size_t length = *text < 0x80                    ? 1
                    : *text >= 0xc2 && *text < 0xe0 ? 2
                    : *text >= 0xe0 && *text < 0xf0 ? 3
                    : *text >= 0xf0 && *text < 0xf5 ? 4
                                                    : 0;

    if (*text < 0x20 || *text == 0x7f)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((*text == 0xe0 && text[1] < 0xa0) || (*text == 0xf0 && text[1] < 0x90) || (*text == 0xed && text[1] > 0x9f) ||
        (*text == 0xf4 && text[1] > 0x8f) || (*text == 0xef && text[1] == 0xbf && text[2] > 0xbd))
        return 0;
    return length;
}

void markup_text(FILE *out, const char *text)
{
    while (*text) {
        size_t length = character_length((const unsigned char *)text);

        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else if (length)
            fwrite(text, 1, length, out);
        else
            fputc('?', out);
        text += length ? length : 1;
    }
}
