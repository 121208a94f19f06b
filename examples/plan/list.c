/* SPDX-License-Identifier: MIT */
/* Reads guests, strictly: what is not known is an error that names its line and word. See list.h. */
#include "list.h"
#include "numbers.h"
#include "past.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DISK_LEAST (UINT64_C(1) << 20)
#define DISK_MOST UINT64_C(1000000000000000)
#define RATE_MOST UINT64_C(1000000000000)
#define TEXT_MOST (16u << 20) /* of a file */

const char list_help[] =
    "  name            letters, digits and other visible signs of ASCII, at most 127\n"
    "  disk=SIZE       what the guest sees: 1MiB to 1PB, as 100GiB\n"
    "  write=RATE      what it writes on average: 0 to 1TB/s, as 5MB/s; may be left out where --history\n"
    "                  knows it\n"
    "  used=SIZE       what there is to copy, at most the disk (the disk)\n"
    "  ws=SIZE         its working set: what it writes to at all (2 to 50 % of what is used, another\n"
    "                  part in each run)\n"
    "  block=SIZE      one of its writes: 512 to 1MiB (4KiB)\n"
    "  depth=N         how many of them it has in flight: 1 to 1024 (32)\n"
    "  link=N          which --link it leaves by: 1 is the first (1)\n"
    "  priority        it goes before those that have none\n";

enum key { KEY_DISK, KEY_WRITE, KEY_USED, KEY_WS, KEY_BLOCK, KEY_DEPTH, KEY_LINK, KEY_PRIORITY, KEYS };

static const struct known {
    const char *name, *is;
    enum { IS_SIZE, IS_RATE, IS_COUNT, IS_WORD } kind;
    uint64_t least, most;
} known[KEYS] = {
    [KEY_DISK] = { "disk", "a size of 1 MiB to 1 PB, as 100GiB", IS_SIZE, DISK_LEAST, DISK_MOST },
    [KEY_WRITE] = { "write", "a rate of 0 to 1 TB/s, as 5MB/s", IS_RATE, 0, RATE_MOST },
    [KEY_USED] = { "used", "a size of 1 MiB to 1 PB, as 40GiB", IS_SIZE, DISK_LEAST, DISK_MOST },
    [KEY_WS] = { "ws", "a size of 1 MiB to 1 PB, as 2GiB", IS_SIZE, DISK_LEAST, DISK_MOST },
    [KEY_BLOCK] = { "block", "a size of 512 B to 1 MiB, as 4KiB", IS_SIZE, 512, UINT64_C(1) << 20 },
    [KEY_DEPTH] = { "depth", "a whole number from 1 to 1024", IS_COUNT, 1, 1024 },
    [KEY_LINK] = { "link", "a whole number from 1 to 16", IS_COUNT, 1, LIST_LINKS },
    [KEY_PRIORITY] = { "priority", "a word without a value (in JSON true or false)", IS_WORD, 0, 1 },
};

/* One guest as it is read. */
struct entry {
    const char *name;
    bool is_given[KEYS];
    uint64_t value[KEYS];
};

static int unknown_key(const char *where, const char *word, char error[FAIL_SIZE])
{
    fail(error, "%s: %s: none of", where, word);
    for (int k = 0; k < KEYS; k++) {
        size_t n = strlen(error);

        snprintf(error + n, FAIL_SIZE - n, "%s %s%s", k ? "," : "", known[k].name, known[k].kind == IS_WORD ? "" : "=");
    }
    return -1;
}

/* `word` is what the message shows; text NULL: there is no value. */
static int set_key(struct entry *e, int k, const char *text, const char *where, const char *word, char error[FAIL_SIZE])
{
    const struct known *key = &known[k];
    bool good = key->kind == IS_WORD ? !text : text != NULL;

    if (e->is_given[k])
        return fail(error, "%s: %s: %s is said twice", where, word, key->name);
    e->value[k] = 1;
    if (good && key->kind == IS_COUNT)
        good = read_count(text, key->least, key->most, &e->value[k]);
    else if (good && key->kind != IS_WORD)
        good = read_size(text, key->kind == IS_RATE ? 1000 : 1024, key->least, key->most, &e->value[k]);
    if (!good)
        return fail(error, "%s: %s: %s is %s", where, word, key->name, key->is);
    e->is_given[k] = true;
    return 0;
}

static int find_key(const char *word, size_t length)
{
    int k = 0;

    while (k < KEYS && (strlen(known[k].name) != length || strncmp(known[k].name, word, length) != 0))
        k++;
    return k;
}

static int check_name(const struct list *l, const char *name, const char *where, char error[FAIL_SIZE])
{
    size_t length = strlen(name);

    for (size_t k = 0; k < length; k++)
        if (name[k] <= ' ' || name[k] > '~')
            return fail(error, "%s: %s: a name has visible signs of ASCII only", where, name);
    if (!length || length > LIST_NAME)
        return fail(error, "%s: %s: a name has 1 to %d signs", where, length ? name : "\"\"", LIST_NAME);
    if (find_key(name, strcspn(name, "=")) < KEYS && strchr(name, '='))
        return fail(error, "%s: %s: a guest's name comes first", where, name);
    for (size_t k = 0; k < l->count; k++)
        if (!strcmp(l->names[k], name))
            return fail(error, "%s: %s: this name was there before", where, name);
    return 0;
}

/* What earlier migrations measured, where there was one. */
static int take_past(const struct list *l, struct entry *e, char error[FAIL_SIZE])
{
    double bytes_per_s;
    char id[PAST_ID];
    int rc;

    past_id("", e->name, id);
    rc = l->history && !e->is_given[KEY_WRITE] ? past_write_rate(l->history, id, &bytes_per_s, error) : 0;
    if (rc > 0) {
        e->value[KEY_WRITE] = (uint64_t)fmin(bytes_per_s, (double)RATE_MOST);
        e->is_given[KEY_WRITE] = true;
    }
    return rc < 0 ? -1 : 0;
}

static int add(struct list *l, struct entry *e, const char *where, char error[FAIL_SIZE])
{
    struct guest *g = &l->guests[l->count];
    const uint64_t *v = e->value;

    if (take_past(l, e, error))
        return -1;
    for (int k = KEY_DISK; k <= KEY_WRITE; k++)
        if (!e->is_given[k])
            return fail(error, "%s: %s: %s is needed, %s", where, e->name, known[k].name, known[k].is);
    for (int k = KEY_USED; k <= KEY_WS; k++)
        if (e->is_given[k] && v[k] > v[KEY_DISK])
            return fail(error, "%s: %s: %s is larger than its disk", where, e->name, known[k].name);
    if (l->count == LIST_MOST)
        return fail(error, "%s: %s: more than %d guests", where, e->name, LIST_MOST);
    *g = (struct guest){ .name = l->names[l->count],
                         .disk_bytes = (double)v[KEY_DISK],
                         .used_bytes = (double)v[e->is_given[KEY_USED] ? KEY_USED : KEY_DISK],
                         .write_bytes_per_s = (double)v[KEY_WRITE],
                         .request_bytes = e->is_given[KEY_BLOCK] ? (double)v[KEY_BLOCK] : 4096,
                         .depth = e->is_given[KEY_DEPTH] ? (double)v[KEY_DEPTH] : 32,
                         .set_bytes = e->is_given[KEY_WS] ? (double)v[KEY_WS] : 0,
                         .link = e->is_given[KEY_LINK] ? (uint32_t)v[KEY_LINK] - 1 : 0,
                         .first = e->is_given[KEY_PRIORITY] && v[KEY_PRIORITY] };
    snprintf(l->names[l->count++], LIST_NAME + 1, "%s", e->name);
    return 0;
}

int list_line(struct list *l, const char *where, const char *line, char error[FAIL_SIZE])
{
    char *copy = strdup(line), *rest = copy, *word;
    struct entry e = { 0 };
    int rc = copy ? 0 : fail(error, "out of memory");

    while (!rc && (word = strsep(&rest, " \t\r\n")) != NULL) {
        size_t length = strcspn(word, "=");
        int k = find_key(word, length);

        if (!*word)
            continue;
        if (!e.name) {
            e.name = word;
            rc = check_name(l, word, where, error);
        } else if (k == KEYS) {
            rc = unknown_key(where, word, error);
        } else {
            rc = set_key(&e, k, word[length] ? word + length + 1 : NULL, where, word, error);
        }
    }
    if (!rc)
        rc = e.name ? add(l, &e, where, error) : fail(error, "%s: no guest in it", where);
    free(copy);
    return rc;
}

static int read_lines(struct list *l, const char *path, char *text, char error[FAIL_SIZE])
{
    char *rest = text, *line, where[FAIL_SIZE / 2];
    int rc = 0;

    for (unsigned number = 1; !rc && (line = strsep(&rest, "\n")) != NULL; number++) {
        size_t blank = strspn(line, " \t\r");

        snprintf(where, sizeof where, "%s, line %u", path, number);
        if (line[blank] && line[blank] != '#')
            rc = list_line(l, where, line, error);
    }
    return rc;
}

/* JSON */

static int set_json(struct entry *e, const char *key, json_t *value, const char *where, char error[FAIL_SIZE])
{
    int k = find_key(key, strlen(key));
    char *shown = NULL, number[32], word[FAIL_SIZE / 4];
    const char *text = json_string_value(value);
    int rc;

    if (k == KEYS)
        return unknown_key(where, key, error);
    shown = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT);
    snprintf(word, sizeof word, "%s %.100s", key, shown ? shown : "?");
    free(shown);
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        text = number;
    } else if (json_is_real(value)) {
        double real = json_real_value(value); /* 5e6 and 5000000.1 are rates; of a count, or what is too large, nothing is made */

        if (real >= 0 && real < 1e18 && (known[k].kind != IS_COUNT || real == floor(real))) {
            snprintf(number, sizeof number, "%.0f", floor(real));
            text = number;
        }
    }
    if (known[k].kind == IS_WORD) {
        if (!json_is_boolean(value))
            return fail(error, "%s: %s: %s is true or false", where, word, key);
        rc = set_key(e, k, NULL, where, word, error);
        e->value[k] = json_is_true(value);
    } else {
        rc = set_key(e, k, text, where, word, error);
    }
    return rc;
}

static int read_object(struct list *l, json_t *object, const char *where, char error[FAIL_SIZE])
{
    struct entry e = { .name = json_string_value(json_object_get(object, "name")) };
    const char *key;
    json_t *value;

    if (!json_is_object(object))
        return fail(error, "%s: an object {\"name\": ..., \"disk\": ..., \"write\": ...}", where);
    if (!e.name)
        return fail(error, "%s: \"name\" is needed, a string", where);
    if (check_name(l, e.name, where, error))
        return -1;
    json_object_foreach(object, key, value)
        if (strcmp(key, "name") != 0 && set_json(&e, key, value, where, error))
            return -1;
    return add(l, &e, where, error);
}

static int read_json(struct list *l, const char *path, const char *text, size_t length, char error[FAIL_SIZE])
{
    json_error_t wrong;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &wrong), *vms = root;
    char where[FAIL_SIZE / 2];
    int rc = 0;

    if (!root)
        return fail(error, "%s, line %d, column %d: %s", path, wrong.line, wrong.column, wrong.text);
    if (json_is_object(root)) {
        const char *key;
        json_t *value;

        vms = json_object_get(root, "vms");
        json_object_foreach(root, key, value)
            if (strcmp(key, "vms") != 0 && !rc)
                rc = fail(error, "%s: \"%s\": there is \"vms\" only, an array of guests", path, key);
    }
    if (!rc && !json_is_array(vms))
        rc = fail(error, "%s: an array of guests, or an object with one in \"vms\"", path);
    for (size_t k = 0; !rc && k < json_array_size(vms); k++) {
        snprintf(where, sizeof where, "%s, guest %zu", path, k + 1);
        rc = read_object(l, json_array_get(vms, k), where, error);
    }
    json_decref(root);
    return rc;
}

/* NULL: see error. */
static char *read_all(const char *path, FILE *in, size_t *length, char error[FAIL_SIZE])
{
    char *text = NULL;
    size_t room = 0;

    *length = 0;
    do {
        char *more = *length + 1 >= room ? realloc(text, room = room ? 2 * room : 65536) : text;

        if (!more || room > TEXT_MOST) {
            free(more ? more : text);
            fail(error, "%s: %s", path, more ? "more than 16 MiB" : "out of memory");
            return NULL;
        }
        text = more;
        *length += fread(text + *length, 1, room - 1 - *length, in);
    } while (!feof(in) && !ferror(in));
    text[*length] = 0;
    if (!ferror(in))
        return text;
    fail(error, "%s: %s", path, strerror(errno));
    free(text);
    return NULL;
}

int list_read(struct list *l, const char *path, FILE *in, bool json, char error[FAIL_SIZE])
{
    size_t length, blank;
    char *text = read_all(path, in, &length, error);
    int rc;

    if (!text)
        return -1;
    blank = strspn(text, " \t\r\n");
    if (json || text[blank] == '[' || text[blank] == '{')
        rc = read_json(l, path, text, length, error);
    else if (strlen(text) != length)
        rc = fail(error, "%s: it is no text: a byte of 0 is in it", path);
    else
        rc = read_lines(l, path, text, error);
    if (!rc && !l->count)
        rc = fail(error, "%s: no guest in it", path);
    free(text);
    return rc;
}

int list_write(const struct list *l, FILE *out)
{
    for (size_t k = 0; k < l->count; k++) {
        const struct guest *g = &l->guests[k];

        fprintf(out, "%s disk=%.0f used=%.0f write=%.0f block=%.0f depth=%.0f", g->name, g->disk_bytes, g->used_bytes,
                g->write_bytes_per_s, g->request_bytes, g->depth);
        if (g->set_bytes > 0)
            fprintf(out, " ws=%.0f", g->set_bytes);
        fprintf(out, " link=%u%s\n", g->link + 1, g->first ? " priority" : "");
    }
    return ferror(out) ? -1 : 0;
}

int list_check(const struct list *l, size_t links, char error[FAIL_SIZE])
{
    for (size_t k = 0; k < l->count; k++)
        if (l->guests[k].link >= links)
            return fail(error, "%s: link=%u: --link is given %zu times", l->names[k], l->guests[k].link + 1, links);
    return 0;
}
