/* SPDX-License-Identifier: MIT */
/* text: bounded writing, and strict reading of the line formats that `save` writes. Private.
 *
 * A saved text is lines of words separated by single spaces; numbers are decimal, names are quoted with %XX for anything
 * but letters, digits and -._/: so that a line is always printable ASCII. */
#ifndef MIGBUF_LIB_TEXT_H
#define MIGBUF_LIB_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counts what would be written and writes what fits; `length` beyond `capacity` - 1 means it was too short. */
struct migbuf__writer {
    char *text;
    size_t capacity, length;
};

__attribute__((format(printf, 2, 3))) void migbuf__write(struct migbuf__writer *w, const char *format, ...);
void migbuf__write_name(struct migbuf__writer *w, const char *name);
void migbuf__write_json_string(struct migbuf__writer *w, const char *s);
/* Ends the text with a checksum line over all of it. */
void migbuf__write_end(struct migbuf__writer *w, const char *keyword);

/* UTF-8. */
/* The length of the character that `text` begins with, or 0 when it begins with none; *point is which one. */
size_t migbuf__character(const char *text, uint32_t *point);
bool migbuf__is_utf8(const char *text);
/* What fits, cut between two characters and NUL-terminated. `size` is at least 1. */
void migbuf__copy_cut(char *out, size_t size, const char *text);

/* Reading: every function returns 0 and moves on, or sets `bad`, after which all of them fail. */
struct migbuf__reader {
    const char *at, *end;
    int bad;
};

/* Checks the last line's checksum and leaves a reader over the lines before it. */
struct migbuf__reader migbuf__reader(const char *text, size_t length, const char *keyword);
/* The next word must be this one / a number within bounds / a name of less than `size` bytes. */
void migbuf__read_word(struct migbuf__reader *r, const char *word);
int migbuf__next_is(const struct migbuf__reader *r, const char *word);
uint64_t migbuf__read_number(struct migbuf__reader *r, uint64_t least, uint64_t most);
void migbuf__read_name(struct migbuf__reader *r, char *name, size_t size);
#endif
