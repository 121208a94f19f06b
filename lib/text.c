/* SPDX-License-Identifier: MIT */
/* text: the writer that never writes past its end and still counts, and the reader that takes nothing but what a writer
 * wrote. What a line means is its caller's business. */
#include "text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void migbuf__write(struct migbuf__writer *w, const char *format, ...)
{
    size_t left = w->length < w->capacity ? w->capacity - w->length : 0;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(left ? w->text + w->length : NULL, left, format, args);
    va_end(args);
    w->length += n > 0 ? (size_t)n : 0;
}

static int is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._/:", c));
}

void migbuf__write_name(struct migbuf__writer *w, const char *name)
{
    if (!*name)
        migbuf__write(w, "%%"); /* an empty word could not be read back */
    for (; *name; name++)
        migbuf__write(w, is_plain(*name) ? "%c" : "%%%02X", (unsigned char)*name);
}

void migbuf__write_json_string(struct migbuf__writer *w, const char *s)
{
    migbuf__write(w, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            migbuf__write(w, "\\%c", *s);
        else
            migbuf__write(w, (unsigned char)*s < 0x20 ? "\\u%04x" : "%c", (unsigned char)*s);
    }
    migbuf__write(w, "\"");
}

/* ---- characters ---- */

size_t migbuf__character(const char *text, uint32_t *point)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char *u = (const unsigned char *)text;
    size_t length = u[0] < 0x80 ? 1 : (u[0] & 0xE0) == 0xC0 ? 2 : (u[0] & 0xF0) == 0xE0 ? 3 : (u[0] & 0xF8) == 0xF0 ? 4 : 0;

    *point = length == 1 ? u[0] : length ? u[0] & (0x7Fu >> length) : 0;
    for (size_t i = 1; i < length; i++) {
        if ((u[i] & 0xC0) != 0x80)
            return 0;
        *point = *point << 6 | (u[i] & 0x3Fu);
    }
    return length && *point >= least[length] && *point <= 0x10FFFF && (*point & ~0x7FFu) != 0xD800 ? length : 0;
}

bool migbuf__is_utf8(const char *text)
{
    uint32_t point;
    size_t n = 1;

    for (; *text && n; text += n)
        n = migbuf__character(text, &point);
    return n != 0;
}

void migbuf__copy_cut(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);

    if (n >= size)
        for (n = size - 1; n && ((unsigned char)text[n] & 0xC0) == 0x80;)
            n--;
    memcpy(out, text, n);
    out[n] = 0;
}

/* FNV-1a: it is to notice a text that was cut or edited by hand, not a forger. */
static uint64_t checksum(const char *text, size_t length)
{
    uint64_t sum = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return sum;
}

void migbuf__write_end(struct migbuf__writer *w, const char *keyword)
{
    uint64_t sum = w->length < w->capacity ? checksum(w->text, w->length) : 0;

    migbuf__write(w, "%s %016llx\n", keyword, (unsigned long long)sum);
}

struct migbuf__reader migbuf__reader(const char *text, size_t length, const char *keyword)
{
    struct migbuf__reader r = { text, text, 1 };
    size_t last = strlen(keyword) + 1 + 16 + 1;
    char expected[64];

    if (length < last)
        return r;
    r.end = text + length - last;
    snprintf(expected, sizeof expected, "%s %016llx\n", keyword, (unsigned long long)checksum(text, length - last));
    r.bad = memcmp(r.end, expected, last) != 0;
    return r;
}

/* One word and the separator behind it. */
static size_t word_length(const struct migbuf__reader *r)
{
    size_t n = 0;

    while (r->at + n < r->end && r->at[n] != ' ' && r->at[n] != '\n')
        n++;
    return n;
}

static void step_over(struct migbuf__reader *r, size_t n)
{
    r->at += n;
    if (r->at == r->end)
        r->bad = 1; /* every word ends with a space or a newline */
    else
        r->at++;
}

int migbuf__next_is(const struct migbuf__reader *r, const char *word)
{
    size_t n = word_length(r);

    return !r->bad && n == strlen(word) && !memcmp(r->at, word, n);
}

void migbuf__read_word(struct migbuf__reader *r, const char *word)
{
    if (migbuf__next_is(r, word))
        step_over(r, strlen(word));
    else
        r->bad = 1;
}

uint64_t migbuf__read_number(struct migbuf__reader *r, uint64_t least, uint64_t most)
{
    size_t n = word_length(r);
    uint64_t x = 0;

    if (!n || n > 20)
        r->bad = 1;
    for (size_t i = 0; i < n && !r->bad; i++) {
        uint64_t digit = (uint64_t)(r->at[i] - '0');

        if (r->at[i] < '0' || r->at[i] > '9' || x > (UINT64_MAX - digit) / 10)
            r->bad = 1;
        x = x * 10 + digit;
    }
    if (r->bad || x < least || x > most) {
        r->bad = 1;
        return least;
    }
    step_over(r, n);
    return x;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void migbuf__read_name(struct migbuf__reader *r, char *name, size_t size)
{
    size_t n = word_length(r), used = 0;

    if (!n || r->bad) {
        r->bad = 1;
        return;
    }
    for (size_t i = 0; i < n && !(n == 1 && r->at[0] == '%'); i++) {
        int c = r->at[i];

        if (c == '%') {
            c = i + 2 < n && hex(r->at[i + 1]) >= 0 && hex(r->at[i + 2]) >= 0 ? hex(r->at[i + 1]) * 16 + hex(r->at[i + 2])
                                                                               : 0;
            i += 2;
        }
        if (!c || used + 1 >= size) {
            r->bad = 1;
            return;
        }
        name[used++] = (char)c;
    }
    name[used] = 0;
    step_over(r, n);
}
