/* SPDX-License-Identifier: MIT */
/* history: a VM's attempts as lines of text. Text in, text out; no memory of its own.
 *
 * What must stay true: which lines stay depends on nothing but the set of lines that ever came in. The newest are kept, by an
 * order of all lines, and a line that is dropped is dropped in every later merge, too: so merging is commutative,
 * associative and idempotent. */
#include "migbuf/history.h"
#include "memory.h"
#include "number.h"
#include "text.h"
#include <string.h>

#define LINE_BYTES (MIGBUF_HISTORY_BYTES / MIGBUF_HISTORY_LINES) /* with its newline */
#define BEGINNING "migbuf-history 1 "
#define CRC_BYTES 13 /* " crc=" and eight digits */

/* Every number of an attempt in the order of the record: what must not be missing if a line gets long is first. */
static const char key_of[][13] = {
    "n", "at", "moved", "back", "failed", "lost", "refused", "ram_ms", "down_ms", "set_b", "dirty_bps", "growth_ppm", "write_bps",
    "encoding_ppm", "link_bps", "throttle", "limit_ms", "rounds", "ram_b", "sent_b", "disk_ms", "mirror_ms", "disk_b", "peak_b",
};
#define NUMBERS (sizeof key_of / sizeof *key_of)
#define EARLIER 2
#define MEASURED 7

static const char *const outcome_name[] = { "unknown", "moved", "back", "failed", "lost", "refused" };
static const char *const phase_name[] = { "unknown", "admission", "base", "mirror", "ram", "switch", "target" };
static const char *const why_name[] = { "unknown", "done", "deadline", "no-convergence", "no-space", "link-down", "peer-gone",
                                        "cancelled", "refused-by-qemu", "blocked", "unknown" };
#define COUNT(array) ((int32_t)(sizeof(array) / sizeof *(array)))

static const char *name_in(const char *const *names, int32_t count, int32_t k)
{
    return names[k > 0 && k < count ? k : 0];
}

const char *migbuf_attempt_outcome_text(int32_t outcome)
{
    return name_in(outcome_name, COUNT(outcome_name), outcome);
}

const char *migbuf_attempt_phase_text(int32_t phase)
{
    return name_in(phase_name, COUNT(phase_name), phase);
}

const char *migbuf_attempt_why_text(int32_t why)
{
    return name_in(why_name, COUNT(why_name), why);
}

static uint64_t number_of(const struct migbuf_attempt *a, size_t k)
{
    uint64_t x;

    memcpy(&x, (const char *)a + offsetof(struct migbuf_attempt, number) + k * sizeof x, sizeof x);
    return x;
}

static void set_number(struct migbuf_attempt *a, size_t k, uint64_t x)
{
    memcpy((char *)a + offsetof(struct migbuf_attempt, number) + k * sizeof x, &x, sizeof x);
}

int migbuf_attempt_init(struct migbuf_attempt *a)
{
    if (!a)
        return MIGBUF_E_INVALID;
    *a = (struct migbuf_attempt){ .outcome = 0 };
    for (size_t k = 0; k < NUMBERS; k++)
        set_number(a, k, MIGBUF_ATTEMPT_UNKNOWN);
    return 0;
}

/* One line */

/* CRC-32 as in IEEE 802.3. */
static uint32_t crc32_of(const char *text, size_t length)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned char)text[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
    }
    return ~crc;
}

/* What does not fit any more is left out: an unknown figure. */
static void write_if_it_fits(struct migbuf__writer *w, const char *key, const char *name, uint64_t x)
{
    size_t before = w->length;

    migbuf__write(w, " %s=", key);
    if (name)
        migbuf__write_name(w, name);
    else
        migbuf__write(w, "%llu", (unsigned long long)x);
    if (w->length + CRC_BYTES + 1 > LINE_BYTES)
        w->length = before;
}

static void write_line(struct migbuf__writer *w, const struct migbuf_attempt *a)
{
    migbuf__write(w, BEGINNING "id=");
    migbuf__write_name(w, a->id);
    migbuf__write(w, " n=%llu at=%llu out=%s phase=%s why=%s", (unsigned long long)a->number, (unsigned long long)a->at_s,
                  outcome_name[a->outcome], phase_name[a->phase], why_name[a->why]);
    for (size_t k = EARLIER; k < MEASURED; k++)
        if (number_of(a, k))
            write_if_it_fits(w, key_of[k], NULL, number_of(a, k));
    if (a->post_copy)
        write_if_it_fits(w, "post", NULL, 1);
    if (a->from[0])
        write_if_it_fits(w, "from", a->from, 0);
    if (a->to[0])
        write_if_it_fits(w, "to", a->to, 0);
    for (size_t k = MEASURED; k < NUMBERS; k++)
        if (number_of(a, k) != MIGBUF_ATTEMPT_UNKNOWN)
            write_if_it_fits(w, key_of[k], NULL, number_of(a, k));
    if (a->qemu[0])
        write_if_it_fits(w, "qemu", a->qemu, 0);
    migbuf__write(w, " crc=%08x\n", (unsigned)crc32_of(w->text, w->length));
}

/* A line without its newline, and what it is sorted by first. */
struct line {
    const char *text;
    size_t length;
    uint64_t at_s, n;
};

/* A reader over the value of a key, or one that is bad: it is not there. */
static struct migbuf__reader value_of(const struct line *l, const char *key)
{
    struct migbuf__reader r = { l->text, l->text + l->length, 1 };
    size_t bytes = strlen(key);

    for (const char *p = l->text + sizeof BEGINNING - 1; r.bad && p < r.end; p++)
        if (p[-1] == ' ' && (size_t)(r.end - p) > bytes && !memcmp(p, key, bytes) && p[bytes] == '=') {
            r.at = p + bytes + 1;
            r.bad = 0;
        }
    return r;
}

static uint64_t read_value(const struct line *l, const char *key, uint64_t missing, int *bad)
{
    struct migbuf__reader r = value_of(l, key);
    uint64_t x;

    if (r.bad || migbuf__next_is(&r, "-"))
        return missing;
    x = migbuf__read_number(&r, 0, UINT64_MAX);
    *bad |= r.bad;
    return x;
}

static int32_t read_choice(const struct line *l, const char *key, const char *const *names, int32_t count, int *bad)
{
    struct migbuf__reader r = value_of(l, key);

    for (int32_t k = 1; k < count; k++)
        if (migbuf__next_is(&r, names[k]))
            return k;
    *bad = 1;
    return 0;
}

static void read_text(const struct line *l, const char *key, char *name, size_t size, int *bad)
{
    struct migbuf__reader r = value_of(l, key);

    if (r.bad)
        return;
    migbuf__read_name(&r, name, size);
    *bad |= r.bad;
}

/* 0, or not a line of this format. */
static int read_line(const struct line *l, struct migbuf_attempt *a)
{
    int bad = 0;

    *a = (struct migbuf_attempt){ .outcome = read_choice(l, "out", outcome_name, COUNT(outcome_name), &bad) };
    a->phase = read_choice(l, "phase", phase_name, COUNT(phase_name), &bad);
    a->why = read_choice(l, "why", why_name, COUNT(why_name), &bad);
    read_text(l, "id", a->id, sizeof a->id, &bad);
    read_text(l, "from", a->from, sizeof a->from, &bad);
    read_text(l, "to", a->to, sizeof a->to, &bad);
    read_text(l, "qemu", a->qemu, sizeof a->qemu, &bad);
    for (size_t k = 0; k < NUMBERS; k++)
        set_number(a, k, read_value(l, key_of[k], k >= EARLIER && k < MEASURED ? 0 : MIGBUF_ATTEMPT_UNKNOWN, &bad));
    a->post_copy = read_value(l, "post", 0, &bad) == 1;
    return bad || !a->id[0] || a->number == 0 || a->number == MIGBUF_ATTEMPT_UNKNOWN || a->at_s == MIGBUF_ATTEMPT_UNKNOWN;
}

static int is_whole(struct line *l)
{
    static const char digits[] = "0123456789abcdef";
    struct migbuf_attempt a;
    size_t body = l->length - CRC_BYTES;
    uint32_t sum = 0;

    if (l->length < sizeof BEGINNING + CRC_BYTES || l->length >= LINE_BYTES || memcmp(l->text, BEGINNING, sizeof BEGINNING - 1) ||
        memcmp(l->text + body, " crc=", 5))
        return 0;
    for (size_t i = 0; i < l->length; i++)
        if (l->text[i] < ' ' || l->text[i] > '~')
            return 0;
    for (size_t i = 0; i < 8; i++) {
        const char *digit = strchr(digits, l->text[body + 5 + i]);

        if (!digit)
            return 0;
        sum = sum << 4 | (uint32_t)(digit - digits);
    }
    if (sum != crc32_of(l->text, body) || read_line(l, &a))
        return 0;
    l->at_s = a.at_s;
    l->n = a.number;
    return 1;
}

/* The lines that stay */

struct lines {
    struct line line[MIGBUF_HISTORY_LINES]; /* newest first */
    size_t count;
    int broken;
};

/* As strcmp of two lines' values of a key, as written. */
static int compare_value(const struct line *x, const struct line *y, const char *key)
{
    struct migbuf__reader a = value_of(x, key), b = value_of(y, key);

    if (a.bad || b.bad) /* it is not there: before all others */
        return b.bad - a.bad;
    while (*a.at == *b.at && *a.at != ' ') { /* a line ends with its checksum: there is a space behind each */
        a.at++;
        b.at++;
    }
    return (*a.at > *b.at) - (*a.at < *b.at);
}

/* Newer than: > 0; the same attempt: 0. */
static int compare(const struct line *x, const struct line *y)
{
    int order = (x->at_s > y->at_s) - (x->at_s < y->at_s);

    if (!order)
        order = (x->n > y->n) - (x->n < y->n);
    if (!order)
        order = compare_value(x, y, "from");
    return order ? order : compare_value(x, y, "id");
}

static int says_more(const struct line *x, const struct line *y)
{
    return x->length != y->length ? x->length > y->length : memcmp(x->text, y->text, x->length) > 0;
}

static void take_line(struct lines *all, const struct line *l)
{
    size_t k = 0;
    int order = 1;

    while (k < all->count && (order = compare(l, &all->line[k])) < 0)
        k++;
    if (k < all->count && !order) {
        if (says_more(l, &all->line[k]))
            all->line[k] = *l;
        return;
    }
    if (k == MIGBUF_HISTORY_LINES)
        return;
    all->count += all->count < MIGBUF_HISTORY_LINES;
    memmove(&all->line[k + 1], &all->line[k], (all->count - 1 - k) * sizeof *l);
    all->line[k] = *l;
}

static void take_text(struct lines *all, const char *text, size_t length)
{
    const char *end = text + length;

    while (length && text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        struct line l = { text, (size_t)((newline ? newline : end) - text), 0, 0 };

        if (is_whole(&l))
            take_line(all, &l);
        else
            all->broken += all->broken < INT32_MAX;
        text += l.length + 1;
    }
}

static int give(const struct lines *all, char *out, size_t capacity, size_t *out_length)
{
    size_t length = 0;

    for (size_t k = 0; k < all->count; k++)
        length += all->line[k].length + 1;
    *out_length = length;
    if (length >= capacity)
        return MIGBUF_E_TOO_BIG;
    for (size_t k = all->count; k-- > 0;) {
        memcpy(out, all->line[k].text, all->line[k].length);
        out += all->line[k].length;
        *out++ = '\n';
    }
    *out = 0;
    return all->broken;
}

static void read_all(struct lines *all, const char *text, size_t length)
{
    *all = (struct lines){ .count = 0 };
    take_text(all, text, length);
}

int migbuf_history_merge(const char *a, size_t a_length, const char *b, size_t b_length, char *out, size_t capacity,
                         size_t *out_length)
{
    struct lines all = { .count = 0 };

    if ((a_length && !a) || (b_length && !b) || (capacity && !out) || !out_length)
        return MIGBUF_E_INVALID;
    take_text(&all, a, a_length);
    take_text(&all, b, b_length);
    return give(&all, out, capacity, out_length);
}

/* What all of them say together: n of the last, how many ended each way. Of hosts that did not know of each other each
 * counts what it saw: then it is at least so many. */
struct totals {
    uint64_t n, ended[COUNT(outcome_name)];
};

static struct totals add_up(const struct lines *all)
{
    struct totals t = { .n = 0 }, seen = { .n = 0 };

    for (size_t k = 0; k < all->count; k++) {
        struct migbuf_attempt a;

        read_line(&all->line[k], &a);
        seen.ended[a.outcome]++;
        t.n = a.number > t.n ? a.number : t.n;
        for (int32_t o = 1; o < COUNT(outcome_name); o++) {
            uint64_t earlier = number_of(&a, EARLIER + (size_t)o - 1);

            earlier = earlier < UINT64_MAX / 2 ? earlier + (o == a.outcome) : 0; /* nonsense */
            t.ended[o] = earlier > t.ended[o] ? earlier : t.ended[o];
        }
    }
    for (int32_t o = 1; o < COUNT(outcome_name); o++)
        t.ended[o] = seen.ended[o] > t.ended[o] ? seen.ended[o] : t.ended[o];
    return t;
}

static int is_attempt(const struct migbuf_attempt *a)
{
    return memchr(a->id, 0, sizeof a->id) && memchr(a->from, 0, sizeof a->from) && memchr(a->to, 0, sizeof a->to) &&
           memchr(a->qemu, 0, sizeof a->qemu) && a->id[0] && a->at_s != MIGBUF_ATTEMPT_UNKNOWN && a->outcome > 0 &&
           a->outcome < COUNT(outcome_name) && a->phase > 0 && a->phase < COUNT(phase_name) && a->why > 0 &&
           a->why < COUNT(why_name);
}

int migbuf_history_append(const char *text, size_t length, const struct migbuf_attempt *a, char *out, size_t capacity,
                          size_t *out_length)
{
    char buffer[2 * LINE_BYTES];
    struct migbuf__writer w = { buffer, sizeof buffer, 0 };
    struct lines all;
    struct totals t;
    struct migbuf_attempt x;

    if ((length && !text) || !a || (capacity && !out) || !out_length || !is_attempt(a))
        return MIGBUF_E_INVALID;
    read_all(&all, text, length);
    t = add_up(&all);
    x = *a;
    x.number = t.n < UINT64_MAX - 1 ? t.n + 1 : t.n;
    for (size_t o = 1; o < (size_t)COUNT(outcome_name); o++)
        set_number(&x, EARLIER + o - 1, t.ended[o]);
    write_line(&w, &x);
    take_text(&all, buffer, w.length);
    return give(&all, out, capacity, out_length);
}

int migbuf_history_read(const char *text, size_t length, size_t index, struct migbuf_attempt *a)
{
    struct lines all;

    if ((length && !text) || !a)
        return MIGBUF_E_INVALID;
    read_all(&all, text, length);
    if (index >= all.count)
        return 0;
    read_line(&all.line[index], a);
    return 1;
}

/* A name of the tables as words. */
static void write_words(struct migbuf__writer *w, const char *name)
{
    for (; *name; name++)
        migbuf__write(w, "%c", *name == '-' ? ' ' : *name);
}

int migbuf_history_describe(const char *text, size_t length, const char *name, char *out, size_t capacity,
                            size_t *out_length)
{
    struct migbuf__writer w = { out, capacity, 0 };
    struct lines all;
    struct migbuf_attempt last;
    struct totals t;

    if ((length && !text) || !name || (capacity && !out) || !out_length)
        return MIGBUF_E_INVALID;
    read_all(&all, text, length);
    t = add_up(&all);
    if (!all.count)
        migbuf__write(&w, "no attempt of %s is known", name);
    else {
        read_line(&all.line[0], &last);
        t.ended[last.outcome]--;
        migbuf__write(&w, "attempt %llu of %s: ", (unsigned long long)t.n, name);
        for (int32_t o = 1; o < COUNT(outcome_name); o++)
            if (t.ended[o])
                migbuf__write(&w, "%llu %s, ", (unsigned long long)t.ended[o], outcome_name[o]);
        migbuf__write(&w, "the last %s", outcome_name[last.outcome]);
        if (last.outcome != MIGBUF_ATTEMPT_MOVED) {
            migbuf__write(&w, " in %s, ", phase_name[last.phase]);
            write_words(&w, why_name[last.why]);
        }
    }
    *out_length = w.length;
    if (w.length >= capacity)
        return MIGBUF_E_TOO_BIG;
    return t.n < INT32_MAX ? (int)t.n : INT32_MAX;
}

/* What to believe */

#define BELIEF 3.0       /* attempts that what is believed counts for */
#define SPREAD 0.8       /* of its logarithm */
#define NINETY 1.2815515655446004
#define HALF_S (30.0 * 86400)

/* A figure, and the measurements of it, as logarithms beside its own. */
struct figure {
    double *value, *most;
    double weight, sum, squares;
};

static void measure(struct figure *f, double x, double weight)
{
    double beside = log(x < 1e-6 ? 1e-6 : x) - log(*f->value);

    f->weight += weight;
    f->sum += weight * beside;
    f->squares += weight * beside * beside;
}

static void conclude(const struct figure *f)
{
    double n = BELIEF + f->weight, shift = f->sum / n;
    double spread = BELIEF * SPREAD * SPREAD + f->squares - 2 * shift * f->sum + shift * shift * f->weight;

    *f->value *= exp(shift);
    *f->most = *f->value * exp(NINETY * sqrt(spread / n * (1 + 1 / n)));
}

#define FIGURES 5

static void figures_of(struct migbuf_prior *p, struct figure *f)
{
    double *const value[FIGURES] = { &p->write_bytes_per_s, &p->growth_ratio, &p->dirty_bytes_per_s, &p->set_bytes,
                                     &p->encoding };

    for (size_t k = 0; k < FIGURES; k++)
        f[k] = (struct figure){ .value = value[k], .most = value[k] + 1 };
}

static void bound_growth(struct migbuf_prior *p)
{
    p->growth_ratio = migbuf__least(p->growth_ratio, 1);
    p->growth_most = migbuf__least(p->growth_most, 1);
}

static struct migbuf_prior nothing_known(double ram_bytes)
{
    struct migbuf_prior p = { .write_bytes_per_s = 20e6, .growth_ratio = 1, .encoding = 1, .success = 0.9,
                              .dirty_bytes_per_s = 0.01 * ram_bytes, .set_bytes = 0.05 * ram_bytes };
    struct figure f[FIGURES];

    figures_of(&p, f);
    for (size_t k = 0; k < FIGURES; k++)
        conclude(&f[k]);
    bound_growth(&p);
    return p;
}

int migbuf_prior_init(struct migbuf_prior *p, uint64_t size, uint64_t ram_bytes)
{
    struct migbuf_prior known = nothing_known((double)(ram_bytes ? ram_bytes : UINT64_C(1) << 30));

    return migbuf__struct_init(p, size, &known, sizeof known, MIGBUF__FIRST(struct migbuf_prior, reserved));
}

static void learn_from(const struct migbuf_attempt *a, uint64_t now_s, struct figure *f)
{
    const uint64_t x[FIGURES] = { a->write_bytes_per_s, a->growth_ppm, a->dirty_bytes_per_s, a->set_bytes, a->encoding_ppm };
    double weight = exp2(a->at_s < now_s ? -(double)(now_s - a->at_s) / HALF_S : 0);

    for (size_t k = 0; k < FIGURES; k++)
        if (x[k] != MIGBUF_ATTEMPT_UNKNOWN)
            measure(&f[k], k == 1 || k == 4 ? (double)x[k] / 1e6 : (double)x[k], weight);
}

static int fails_like(const struct migbuf_attempt *a, const struct migbuf_attempt *last)
{
    return (a->outcome == MIGBUF_ATTEMPT_FAILED || a->outcome == MIGBUF_ATTEMPT_BACK) && a->phase == last->phase &&
           a->why == last->why;
}

static int take_beliefs(struct migbuf_prior *to, const struct migbuf_prior *beliefs, struct figure *f)
{
    int rc = 0;

    *to = nothing_known(1073741824);
    if (beliefs)
        rc = migbuf__struct_take(to, sizeof *to, beliefs, MIGBUF__FIRST(struct migbuf_prior, reserved));
    figures_of(to, f);
    for (size_t k = 0; k < FIGURES && !rc; k++)
        rc = migbuf__positive(*f[k].value);
    return rc;
}

int migbuf_history_prior(const char *text, size_t length, uint64_t now_s, const struct migbuf_prior *beliefs,
                         struct migbuf_prior *p)
{
    struct lines all;
    struct migbuf_attempt a, last = { .number = 0 };
    struct figure f[FIGURES];
    struct migbuf_prior x;
    struct totals t;
    double started;
    int same = 1, rc = (length && !text) || !p ? MIGBUF_E_INVALID : take_beliefs(&x, beliefs, f);

    if (rc)
        return rc;
    read_all(&all, text, length);
    t = add_up(&all);
    x.same = 0;
    for (size_t k = 0; k < all.count; k++) {
        read_line(&all.line[k], &a);
        if (!k)
            last = a;
        same = same && fails_like(&a, &last);
        x.same += (uint32_t)same;
        learn_from(&a, now_s, f);
    }
    for (size_t k = 0; k < FIGURES; k++)
        conclude(&f[k]);
    bound_growth(&x);
    started = (double)(t.ended[MIGBUF_ATTEMPT_MOVED] + t.ended[MIGBUF_ATTEMPT_BACK] + t.ended[MIGBUF_ATTEMPT_FAILED] +
                       t.ended[MIGBUF_ATTEMPT_LOST]);
    x.success = (9 + (double)t.ended[MIGBUF_ATTEMPT_MOVED]) / (10 + started);
    x.attempts = t.n;
    rc = migbuf__struct_give(p, &x, sizeof x, MIGBUF__FIRST(struct migbuf_prior, reserved));
    return rc ? rc : all.broken;
}
