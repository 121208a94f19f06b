/* SPDX-License-Identifier: MIT */
/* Rows in as many blocks of columns as the width needs. See table.h. */
#include "table.h"
#include <string.h>
#include <sys/ioctl.h>

static const void *row_of(const struct table *t, size_t k)
{
    return (const char *)t->rows + k * t->row_bytes;
}

static int name_width(const struct table *t)
{
    size_t widest = strlen(t->title);
    char text[TABLE_CELL];

    for (size_t k = 0; k < t->row_count; k++) {
        t->name(row_of(t, k), text);
        widest = strlen(text) > widest ? strlen(text) : widest;
    }
    return (int)widest;
}

/* As many columns from `first` on as fit, at least one; returns where to go on. */
static size_t put_block(const struct table *t, size_t first, int width, int name, FILE *out)
{
    size_t end = first;
    char text[TABLE_CELL];

    fprintf(out, "%-*s", name, t->title);
    for (int left = width - name; end < t->column_count && (end == first || t->columns[end].width + 1 <= left); end++)
        left -= t->columns[end].width + 1;
    for (size_t c = first; c < end; c++)
        fprintf(out, " %*s", t->columns[c].width, t->columns[c].title);
    fputc('\n', out);
    for (size_t k = 0; k < t->row_count; k++) {
        if (k && t->gap && t->gap(row_of(t, k - 1), row_of(t, k)))
            fputc('\n', out);
        t->name(row_of(t, k), text);
        fprintf(out, "%-*s", name, text);
        for (size_t c = first; c < end; c++) {
            t->columns[c].cell(row_of(t, k), text);
            fprintf(out, " %*s", t->columns[c].width, text);
        }
        fputc('\n', out);
    }
    return end;
}

void table_write(const struct table *t, int width, FILE *out)
{
    int name = name_width(t);

    for (size_t c = 0; c < t->column_count;) {
        if (c)
            fputc('\n', out);
        c = put_block(t, c, width, name, out);
    }
}

int table_width(FILE *out)
{
    struct winsize size = { .ws_col = 0 };

    if (ioctl(fileno(out), TIOCGWINSZ, &size) || !size.ws_col)
        return 100;
    return size.ws_col;
}
