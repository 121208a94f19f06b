/* SPDX-License-Identifier: MIT */
/*
 * json_text: what there is to know of a JSON text without a tree of it. No memory is taken, and the time is in
 * proportion to the length, whatever a peer wrote.
 */
#include "json.h"
#include <string.h>

#define INT64_DIGITS 19

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t skip_digits(const char *text, size_t bytes, size_t at)
{
    while (at < bytes && is_digit(text[at]))
        at++;
    return at;
}

/* The number of four hex digits, or -1. */
static int hex4(const char *p)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        int digit = is_digit(p[i])               ? p[i] - '0'
                    : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
                    : p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The UTF-16 unit that \uXXXX at `at` stands for, or -1 when there is none. */
static int escaped_unit(const char *text, size_t bytes, size_t at)
{
    if (bytes - at < 6 || text[at] != '\\' || text[at + 1] != 'u')
        return -1;
    return hex4(text + at + 2);
}

static size_t skip_blank(const char *text, size_t bytes, size_t at)
{
    while (at < bytes && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\n'))
        at++;
    return at;
}

/* ---- checking and repairing ---- */

/* How far the text is read, and which of the containers around that place are objects. */
struct walk {
    char *text;
    size_t bytes, at, depth;
    int repaired;
    bool in_object[MIGBUF__JSON_MAX_DEPTH];
};

/* The next character that is not blank, or NUL at the end. */
static char next(struct walk *w)
{
    w->at = skip_blank(w->text, w->bytes, w->at);
    return w->at < w->bytes ? w->text[w->at] : '\0';
}

/* How long the UTF-8 sequence at p is; 0 when it is none: longer than need be, a surrogate, beyond U+10FFFF. */
static size_t utf8_bytes(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t count = p[0] < 0x80                    ? 1
                   : p[0] >= 0xC2 && p[0] <= 0xDF ? 2
                   : p[0] >= 0xE0 && p[0] <= 0xEF ? 3
                   : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                                  : 0;

    if (count > left)
        return 0;
    for (size_t i = 1; i < count; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF0 && p[1] < 0x90) ||
        (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return count;
}

/* A backslash and what belongs to it: how long that is, or 0. Half a surrogate pair is repaired. */
static size_t walk_escape(struct walk *w, size_t at)
{
    int unit = escaped_unit(w->text, w->bytes, at), low;

    if (unit < 0)
        return w->bytes - at >= 2 && w->text[at + 1] && strchr("\"\\/bfnrt", w->text[at + 1]) ? 2 : 0;
    if ((unit & 0xF800) != 0xD800)
        return 6;
    low = escaped_unit(w->text, w->bytes, at + 6);
    if ((unit & 0xFC00) == 0xD800 && low >= 0 && (low & 0xFC00) == 0xDC00)
        return 12;
    memcpy(w->text + at + 2, "FFFD", 4);
    w->repaired = 1;
    return 6;
}

/* The string at w->at. A key holds no NUL: jansson would not take it. */
static int walk_string(struct walk *w, bool is_key)
{
    size_t at = w->at + 1, count;

    for (; at < w->bytes && w->text[at] != '"'; at += count) {
        unsigned char c = (unsigned char)w->text[at];

        if (c < 0x20 || (is_key && escaped_unit(w->text, w->bytes, at) == 0))
            return MIGBUF_E_PROTOCOL;
        count = c == '\\' ? walk_escape(w, at) : utf8_bytes(w->text + at, w->bytes - at);
        if (count == 0)
            return MIGBUF_E_PROTOCOL;
    }
    if (at >= w->bytes)
        return MIGBUF_E_PROTOCOL;
    w->at = at + 1;
    return 0;
}

/* An integer beyond int64 becomes the one next to it that is not, with spaces behind. */
static void saturate(struct walk *w, size_t at, size_t end)
{
    bool negative = w->text[at] == '-';
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";
    char *digits = w->text + at + negative;
    size_t count = end - at - negative;

    if (count < INT64_DIGITS || (count == INT64_DIGITS && memcmp(digits, limit, INT64_DIGITS) <= 0))
        return;
    memcpy(digits, limit, INT64_DIGITS);
    memset(digits + INT64_DIGITS, ' ', count - INT64_DIGITS);
    w->repaired = 1;
}

/* Whether a valid real rounds to more than a double holds, which it does from 2^1024 - 2^970 on. By its digits, because
 * strtod() obeys the locale. */
static bool is_beyond_double(const char *p, const char *end)
{
    static const char limit[] = "17976931348623158079"; /* that number's first digits, of 309 */
    char digits[sizeof limit - 1];
    int64_t place = 0, exponent = 0; /* the number is 0.DIGITS * 10^(place + exponent) */
    size_t count = 0;
    bool fraction = false, falls;

    memset(digits, '0', sizeof digits);
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = true;
        } else if (count == 0 && *p == '0') {
            place -= fraction;
        } else if (is_digit(*p)) {
            if (count < sizeof digits)
                digits[count] = *p;
            count++;
            place += !fraction;
        }
    }
    falls = end - p > 1 && p[1] == '-';
    for (; p < end; p++)
        if (is_digit(*p) && exponent < INT64_MAX / 100)
            exponent = exponent * 10 + (*p - '0');
    place += falls ? -exponent : exponent;
    return count > 0 && (place > 309 || (place == 309 && memcmp(digits, limit, sizeof digits) > 0));
}

static int walk_number(struct walk *w)
{
    size_t start = w->at, first = start + (w->text[start] == '-'), end = skip_digits(w->text, w->bytes, first);
    bool real = false;

    if (end == first || (w->text[first] == '0' && end > first + 1))
        return MIGBUF_E_PROTOCOL;
    if (end < w->bytes && w->text[end] == '.') {
        real = true;
        first = end + 1;
        end = skip_digits(w->text, w->bytes, first);
        if (end == first)
            return MIGBUF_E_PROTOCOL;
    }
    if (end < w->bytes && (w->text[end] == 'e' || w->text[end] == 'E')) {
        real = true;
        first = end + 1;
        first += first < w->bytes && (w->text[first] == '+' || w->text[first] == '-');
        end = skip_digits(w->text, w->bytes, first);
        if (end == first)
            return MIGBUF_E_PROTOCOL;
    }
    w->at = end;
    if (!real)
        saturate(w, start, end);
    return real && is_beyond_double(w->text + start, w->text + end) ? MIGBUF_E_RANGE : 0;
}

static int walk_word(struct walk *w)
{
    static const char *const words[] = { "true", "false", "null" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t count = strlen(words[i]);

        if (w->bytes - w->at >= count && memcmp(w->text + w->at, words[i], count) == 0) {
            w->at += count;
            return 0;
        }
    }
    return MIGBUF_E_PROTOCOL;
}

static int walk_key(struct walk *w)
{
    int rc = next(w) == '"' ? walk_string(w, true) : MIGBUF_E_PROTOCOL;

    if (rc == 0 && next(w) != ':')
        rc = MIGBUF_E_PROTOCOL;
    if (rc == 0)
        w->at++;
    return rc;
}

/* A value, or the beginning of one: 1 when another value comes first, inside it. */
static int walk_value(struct walk *w)
{
    char c = next(w);
    int rc;

    if (c == '"')
        return walk_string(w, false);
    if (c == '-' || is_digit(c))
        return walk_number(w);
    if (c != '{' && c != '[')
        return walk_word(w);
    if (w->depth == MIGBUF__JSON_MAX_DEPTH)
        return MIGBUF_E_TOO_BIG;
    w->in_object[w->depth++] = c == '{';
    w->at++;
    if (next(w) == (c == '{' ? '}' : ']'))
        return 0;
    rc = c == '{' ? walk_key(w) : 0;
    return rc < 0 ? rc : 1;
}

/* Behind a value: closes what ends there. 1 when another value comes, 0 at the end of the text. */
static int walk_on(struct walk *w)
{
    while (w->depth > 0) {
        bool in_object = w->in_object[w->depth - 1];
        char c = next(w);

        if (c == ',') {
            int rc;

            w->at++;
            rc = in_object ? walk_key(w) : 0;
            return rc < 0 ? rc : 1;
        }
        if (c != (in_object ? '}' : ']'))
            return MIGBUF_E_PROTOCOL;
        w->at++;
        w->depth--;
    }
    next(w);
    return w->at == w->bytes ? 0 : MIGBUF_E_PROTOCOL;
}

int migbuf__json_clean(char *text, size_t bytes)
{
    struct walk w = { .text = text, .bytes = bytes };
    char first = next(&w);
    int rc = first == '{' || first == '[' ? 1 : MIGBUF_E_PROTOCOL;

    while (rc > 0) {
        rc = walk_value(&w);
        if (rc == 0)
            rc = walk_on(&w);
    }
    return rc < 0 ? rc : w.repaired;
}

/* ---- strings ---- */

static size_t put_utf8(char *out, uint32_t c)
{
    static const uint32_t first[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    size_t count = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

    for (size_t i = count; i > 1; i--, c >>= 6)
        out[i - 1] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(first[count] | c);
    return count;
}

size_t migbuf__json_unquote(char *text, size_t bytes)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    size_t used = 0;

    for (size_t at = 1; at + 1 < bytes;) {
        int unit = escaped_unit(text, bytes, at);

        if (unit >= 0) {
            uint32_t c = (uint32_t)unit;

            at += 6;
            if ((c & 0xF800) == 0xD800) { /* half of a pair: the other one follows */
                c = 0x10000 + ((c & 0x3FF) << 10) + ((uint32_t)escaped_unit(text, bytes, at) & 0x3FF);
                at += 6;
            }
            used += put_utf8(text + used, c);
        } else if (text[at] == '\\') {
            const char *letter = strchr(letters, text[at + 1]);

            text[used++] = letter ? meanings[letter - letters] : text[at + 1];
            at += 2;
        } else {
            text[used++] = text[at++];
        }
    }
    text[used] = '\0';
    return used;
}

/* ---- looking for something in a text that need not be valid ---- */

static size_t skip_string(const char *text, size_t bytes, size_t at)
{
    for (at++; at < bytes && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < bytes ? at + 1 : bytes;
}

size_t migbuf__json_values(const char *text, size_t bytes)
{
    size_t values = 1;

    for (size_t at = 0; at < bytes;) {
        char c = text[at];

        values += c == ',' || c == '{' || c == '[';
        at = c == '"' ? skip_string(text, bytes, at) : at + 1;
    }
    return values;
}

/* On 64 bits with 32 bytes of overhead a block: a token and its copy, an object with its table, an array with its own, an
 * item of either. */
size_t migbuf__json_tree_bytes(const char *text, size_t bytes)
{
    size_t need = 4096;

    for (size_t at = 0, next; at < bytes; at = next) {
        char c = text[at];

        next = c == '"' ? skip_string(text, bytes, at) : at + 1;
        need += c == '{' ? 384 : c == '[' ? 256 : c == ',' || c == ':' ? 192 : 4 * (next - at);
    }
    return need;
}

/* The end of the value at `at`: of a string or a bracketed value its last character, of anything else a separator. */
static size_t skip_value(const char *text, size_t bytes, size_t at)
{
    size_t depth = 0;

    while (at < bytes) {
        char c = text[at];

        if (depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'))
            return at;
        if (c == '{' || c == '[')
            depth++;
        if (c == '}' || c == ']')
            depth--;
        at = c == '"' ? skip_string(text, bytes, at) : at + 1;
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            return at;
    }
    return bytes;
}

bool migbuf__json_is(const char *text, struct migbuf__json_span span, const char *wanted)
{
    return span.bytes == strlen(wanted) && memcmp(text + span.at, wanted, span.bytes) == 0;
}

bool migbuf__json_next(const char *text, size_t bytes, size_t *at, struct migbuf__json_span *key,
                       struct migbuf__json_span *value)
{
    size_t here = *at ? *at : skip_blank(text, bytes, 0), name, behind, start, end;

    if (here >= bytes || text[here] != (*at ? ',' : '{'))
        return false;
    name = skip_blank(text, bytes, here + 1);
    if (name >= bytes || text[name] != '"')
        return false;
    behind = skip_string(text, bytes, name);
    here = skip_blank(text, bytes, behind);
    if (here >= bytes || text[here] != ':')
        return false;
    start = skip_blank(text, bytes, here + 1);
    end = skip_value(text, bytes, start);
    *key = (struct migbuf__json_span){ .at = name + 1, .bytes = behind - name - 2 };
    *value = (struct migbuf__json_span){ .at = start, .bytes = end - start };
    *at = skip_blank(text, bytes, end);
    return true;
}

bool migbuf__json_find(const char *text, size_t bytes, const char *name, struct migbuf__json_span *value)
{
    struct migbuf__json_span key, found;
    size_t at = 0;
    bool any = false;

    while (migbuf__json_next(text, bytes, &at, &key, &found))
        if (migbuf__json_is(text, key, name)) {
            *value = found;
            any = true;
        }
    return any;
}
