/* SPDX-License-Identifier: MIT */
/*
 * The live picture. Lines are made of cells first and turned into text last, so that none is ever wider than the
 * terminal and colours never count as characters.
 */
#include "picture.h"
#include "migbuf/buffer.h"
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LEAST_COLUMNS 60
#define LEAST_ROWS 8
#define MOST_COLUMNS 240
#define REDRAW_MS 100
#define PLAIN_MS 1000

/* ---- Cells
 * ----------------------------------------------------------------------------------------------------------- */

/* How a cell looks; from PAINT_FILL on the VM's colour as background, from PAINT_VM on as foreground. */
enum { PAINT_NONE, PAINT_BOLD, PAINT_DIM, PAINT_ALARM, PAINT_FILL = 100, PAINT_VM = 200 };

#define PALETTE 16
static const struct {
    uint8_t colour, ink; /* of the 256: its colour, and what is readable on it */
} palette[PALETTE] = {
    { 32, 16 },  { 214, 16 }, { 36, 16 }, { 175, 16 }, { 74, 16 },   { 166, 16 }, { 185, 16 }, { 245, 16 },
    { 98, 231 }, { 168, 16 }, { 34, 16 }, { 180, 16 }, { 125, 231 }, { 73, 16 },  { 94, 231 }, { 133, 231 },
};

struct cell {
    char text[5]; /* one character, UTF-8 */
    uint8_t paint;
};

struct row {
    struct cell cell[MOST_COLUMNS];
    uint32_t count, limit;
};

struct sheet {
    FILE *out;
    struct picture_style style;
    uint32_t lines, most;
    struct row row; /* the one being made */
};

static void row_cell(struct row *row, uint8_t paint, const char *character, size_t bytes)
{
    struct cell *cell = &row->cell[row->count];

    if (row->count >= row->limit)
        return;
    memcpy(cell->text, character, bytes);
    cell->text[bytes] = 0;
    cell->paint = paint;
    row->count++;
}

/* Length of a character known to be one column wide, else 0. Names may contain anything. */
static size_t narrow(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;

    if (*c < 0x80)
        return *c >= 0x20 && *c < 0x7f;
    if (*c >= 0xc3 && *c <= 0xd3 && *c != 0xcc && *c != 0xcd && (c[1] & 0xc0) == 0x80)
        return 2; /* Latin, Cyrillic */
    if (*c == 0xce || *c == 0xcf || (*c == 0xc2 && c[1] >= 0xa1))
        return (c[1] & 0xc0) == 0x80 ? 2 : 0; /* Greek, Latin 1 */
    if (*c == 0xe2 && (c[1] == 0x80 || (c[1] >= 0x94 && c[1] <= 0x97)) && (c[2] & 0xc0) == 0x80)
        return 3; /* punctuation, lines and blocks */
    return 0;
}

static void row_text(struct row *row, const struct picture_style *style, uint8_t paint, const char *text)
{
    while (*text) {
        size_t bytes = narrow(text);

        if (!strncmp(text, "Ω", 2) && !style->utf8)
            row_cell(row, paint, "O", 1);
        else if (bytes == 1 || (bytes && style->utf8))
            row_cell(row, paint, text, bytes);
        else if (((unsigned char)*text & 0xc0) != 0x80)
            row_cell(row, paint, "?", 1);
        text += bytes ? bytes : 1;
    }
}

static void row_to(struct row *row, uint32_t column)
{
    while (row->count < column && row->count < row->limit)
        row_cell(row, PAINT_NONE, " ", 1);
}

__attribute__((format(printf, 3, 4))) static void put(struct sheet *s, uint8_t paint, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    row_text(&s->row, &s->style, paint, text);
}

/* Text in a column `width` wide, cut with an ellipsis, and a space behind it. */
static void put_column(struct sheet *s, uint8_t paint, uint32_t width, bool right, const char *text)
{
    uint32_t start = s->row.count, limit = s->row.limit, used, end = start + width;
    struct row measured = { .limit = MOST_COLUMNS };

    row_text(&measured, &s->style, paint, text);
    used = measured.count;
    if (right && used < width)
        row_to(&s->row, start + width - used);
    s->row.limit = end < limit ? end : limit;
    row_text(&s->row, &s->style, paint, text);
    if (used > width && s->row.count && s->row.count == end) {
        s->row.count--;
        row_text(&s->row, &s->style, paint, s->style.utf8 ? "…" : "~");
    }
    s->row.limit = limit;
    row_to(&s->row, end + 1);
}

static void paint_begin(FILE *out, uint8_t paint)
{
    if (paint == PAINT_BOLD)
        fputs("\033[1m", out);
    else if (paint == PAINT_DIM)
        fputs("\033[2m", out);
    else if (paint == PAINT_ALARM)
        fputs("\033[1;38;5;202m", out);
    else if (paint >= PAINT_VM)
        fprintf(out, "\033[1;38;5;%um", palette[(paint - PAINT_VM) % PALETTE].colour);
    else if (paint >= PAINT_FILL)
        fprintf(out, "\033[48;5;%u;38;5;%um", palette[(paint - PAINT_FILL) % PALETTE].colour,
                palette[(paint - PAINT_FILL) % PALETTE].ink);
}

/* Ends the line and begins the next one. */
static void line_end(struct sheet *s)
{
    struct row *row = &s->row;
    uint8_t paint = PAINT_NONE;

    while (row->count && row->cell[row->count - 1].paint < PAINT_FILL && row->cell[row->count - 1].text[0] == ' ')
        row->count--;
    for (uint32_t i = 0; i < row->count; i++) {
        if (s->style.colour && row->cell[i].paint != paint) {
            if (paint != PAINT_NONE)
                fputs("\033[0m", s->out);
            paint = row->cell[i].paint;
            paint_begin(s->out, paint);
        }
        fputs(row->cell[i].text, s->out);
    }
    if (paint != PAINT_NONE)
        fputs("\033[0m", s->out);
    fputc('\n', s->out);
    s->lines++;
    row->count = 0;
}

/* ---- Bars
 * ------------------------------------------------------------------------------------------------------------ */

static uint8_t fill_of(uint32_t vm)
{
    return (uint8_t)(PAINT_FILL + vm % PALETTE);
}

/* A run of one VM's cells: its letter first, then its colour; without colour letters all the way. */
static void put_vm_run(struct sheet *s, uint32_t vm, uint32_t cells)
{
    const char letter[] = { vm_letter(vm), 0 };

    for (uint32_t i = 0; i < cells; i++)
        put(s, fill_of(vm), "%s", i && s->style.colour ? " " : letter);
}

static void put_run(struct sheet *s, uint8_t paint, uint32_t cells, const char *utf8, const char *ascii)
{
    for (uint32_t i = 0; i < cells; i++)
        put(s, paint, "%s", s->style.utf8 ? utf8 : ascii);
}

static uint32_t scaled(uint64_t part, uint64_t whole, uint32_t cells)
{
    double value = whole ? (double)part / (double)whole * cells : 0;

    return value >= cells ? cells : (uint32_t)(value + 0.5);
}

/* Ends of consecutive parts in cells: whatever has bytes is seen, as long as there is a cell left. */
static uint32_t next_edge(uint32_t edge, uint64_t bytes, uint64_t sum, uint64_t whole, uint32_t cells)
{
    uint32_t next = scaled(sum, whole, cells);

    if (next < edge)
        next = edge;
    if (bytes && next == edge && edge < cells)
        next = edge + 1;
    return next;
}

/* The inside of one bin: its stack from the left, then what is free. */
static void put_stack(struct sheet *s, const struct migbuf_bin *bin, const struct migbuf_shard *shard, uint32_t cells)
{
    /* An open bin shows that it is open, however little is free. */
    uint32_t most = !bin->frozen && cells > bin->shards ? cells - 1 : cells, edge = 0, next;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < bin->shards; i++) {
        sum += shard[i].bytes;
        next = next_edge(edge, shard[i].bytes, sum, bin->share_bytes, cells);
        next = next < most ? next : most;
        put_vm_run(s, (uint32_t)shard[i].id, next - edge);
        edge = next;
    }
    put_run(s, PAINT_DIM, cells - edge, "·", ".");
}

static void put_wall(struct sheet *s, bool frozen)
{
    if (frozen)
        put(s, PAINT_ALARM, "%s", s->style.utf8 ? "┃" : "#");
    else
        put(s, PAINT_DIM, "%s", s->style.utf8 ? "│" : "|");
}

struct ledger {
    const struct migbuf_bin *bin;
    const struct migbuf_shard *shard;
    size_t bins, shards;
};

/* One line per bin, all to the same scale. */
static void put_bins(struct sheet *s, const struct ledger *ledger)
{
    uint32_t most = s->style.columns - 34;
    const struct migbuf_shard *shard = ledger->shard;
    uint64_t largest = 1;

    for (size_t i = 0; i < ledger->bins; i++)
        if (ledger->bin[i].share_bytes > largest)
            largest = ledger->bin[i].share_bytes;
    for (size_t i = 0; i < ledger->bins; shard += ledger->bin[i++].shards) {
        const struct migbuf_bin *bin = &ledger->bin[i];
        uint32_t cells = scaled(bin->share_bytes, largest, most);
        char used[HUMAN_SIZE], share[HUMAN_SIZE];

        put(s, (uint8_t)(PAINT_VM + bin->id % PALETTE), "%c ", vm_letter((uint32_t)bin->id));
        put_wall(s, bin->frozen);
        put_stack(s, bin, shard, cells ? cells : 1);
        put_wall(s, bin->frozen);
        put(s, PAINT_NONE, " %s of %s", human_bytes(bin->used_bytes, used), human_bytes(bin->share_bytes, share));
        if (bin->frozen)
            put(s, PAINT_ALARM, " frozen");
        line_end(s);
    }
}

/* All bins side by side on one line: Ω to scale. */
static void put_strip(struct sheet *s, const struct ledger *ledger)
{
    uint32_t walls = (uint32_t)ledger->bins + 1;
    uint32_t cells = s->style.columns - 5 > 2 * walls ? s->style.columns - 5 - walls : walls, edge = 0, next;
    const struct migbuf_shard *shard = ledger->shard;
    uint64_t sum = 0, whole = 0;

    for (size_t i = 0; i < ledger->bins; i++)
        whole += ledger->bin[i].share_bytes;
    put(s, PAINT_NONE, "bins ");
    put_wall(s, ledger->bin[0].frozen);
    for (size_t i = 0; i < ledger->bins; shard += ledger->bin[i++].shards) {
        sum += ledger->bin[i].share_bytes;
        next = scaled(sum, whole, cells);
        put_stack(s, &ledger->bin[i], shard, next - edge);
        put_wall(s, ledger->bin[i].frozen);
        edge = next;
    }
    line_end(s);
}

static void put_omega(struct sheet *s, const struct record *record, const struct frame *frame, bool by_vm)
{
    uint32_t cells = s->style.columns - 7, edge = 0, next;
    uint64_t sum = 0, free_bytes = 0, taken = frame->used_bytes + frame->reserve_bytes;
    char size[HUMAN_SIZE], used[HUMAN_SIZE], reserve[HUMAN_SIZE], rest[HUMAN_SIZE];

    put(s, PAINT_BOLD, "Ω    ");
    put_wall(s, false);
    for (uint32_t i = 0; by_vm && i < record->vm_count; i++) {
        sum += frame->vm[i].overlay_bytes;
        next = next_edge(edge, frame->vm[i].overlay_bytes, sum, record->omega_bytes, cells);
        put_vm_run(s, i, next - edge);
        edge = next;
    }
    next = next_edge(edge, frame->used_bytes > sum ? 1 : 0, frame->used_bytes, record->omega_bytes, cells);
    put_run(s, PAINT_NONE, next - edge, "█", "#");
    edge = next;
    next = next_edge(edge, frame->reserve_bytes, taken, record->omega_bytes, cells);
    put_run(s, PAINT_NONE, next - edge, "▒", "r");
    put_run(s, PAINT_DIM, cells - next, "·", ".");
    put_wall(s, false);
    line_end(s);
    if (record->omega_bytes > taken)
        free_bytes = record->omega_bytes - taken;
    put(s, PAINT_NONE, "     %s of %s", human_bytes(frame->used_bytes, used), human_bytes(record->omega_bytes, size));
    put(s, PAINT_NONE, " (%.0f %%)   %s reserve %s",
        record->omega_bytes ? 100 * (double)frame->used_bytes / (double)record->omega_bytes : 0,
        s->style.utf8 ? "▒" : "r", human_bytes(frame->reserve_bytes, reserve));
    put(s, PAINT_NONE, "   %s free %s", s->style.utf8 ? "·" : ".", human_bytes(free_bytes, rest));
    line_end(s);
}

/* ---- VMs
 * ------------------------------------------------------------------------------------------------------------- */

/* Widths of the columns of the table; 0: left out. */
struct widths {
    uint32_t name, bar, guest, why;
};

static struct widths widths_for(uint32_t columns)
{
    struct widths w = { .name = 7 };
    uint32_t rest;

    /* letter 2, phase 10, percent 5, left 8, limit 10, overlay 8 */
    if (columns >= 76)
        w.guest = 9;
    if (columns >= 100)
        w.name = 15;
    rest = columns - 43 - w.name - 1 - (w.guest ? w.guest + 1 : 0);
    w.why = rest < 12 ? rest : 11;
    rest -= w.why;
    if (rest >= 6)
        w.bar = rest - 1 > 30 ? 30 : rest - 1;
    w.why += w.bar ? rest - w.bar - 1 : rest;
    return w;
}

static void put_titles(struct sheet *s, const struct widths *w)
{
    put(s, PAINT_DIM, "  ");
    put_column(s, PAINT_DIM, w->name, false, "guest");
    put_column(s, PAINT_DIM, 9, false, "phase");
    if (w->bar)
        put_column(s, PAINT_DIM, w->bar, false, w->bar < 8 ? "done" : "progress");
    put_column(s, PAINT_DIM, 4, false, "");
    put_column(s, PAINT_DIM, 7, true, "left");
    put_column(s, PAINT_DIM, 9, true, "limit");
    if (w->guest)
        put_column(s, PAINT_DIM, w->guest, true, "writes");
    put_column(s, PAINT_DIM, 7, true, "overlay");
    put_column(s, PAINT_DIM, w->why, false, "because");
    line_end(s);
}

static void put_progress(struct sheet *s, uint32_t vm, uint32_t permille, uint32_t cells)
{
    uint32_t done = scaled(permille, 1000, cells);

    for (uint32_t i = 0; i < cells; i++) {
        if (i >= done)
            put(s, PAINT_DIM, "%s", s->style.utf8 ? "·" : ".");
        else
            put(s, (uint8_t)(PAINT_VM + vm % PALETTE), "%s", s->style.utf8 ? "█" : "=");
    }
    put(s, PAINT_NONE, " ");
}

static void put_why(struct sheet *s, const struct frame_vm *f, uint32_t width)
{
    /* The sentence where there is room for it, else the word. */
    const char *sentence = f->reason ? migbuf_reason_text(f->reason) : "";

    put_column(s, f->paused ? PAINT_ALARM : PAINT_NONE, width, false,
               strlen(sentence) <= width ? sentence : reason_word(f->reason));
}

static void put_vm(struct sheet *s, const struct record *record, const struct frame *frame, uint32_t vm,
                   const struct widths *w)
{
    const struct frame_vm *f = &frame->vm[vm];
    bool active = phase_is_active(f->phase), ends = active && f->phase != PHASE_BACK;
    uint8_t paint = f->phase == PHASE_FAILED ? PAINT_ALARM : active ? PAINT_NONE : PAINT_DIM;
    char text[HUMAN_SIZE], ram[RECORD_RAM_SIZE];

    put(s, (uint8_t)(PAINT_VM + vm % PALETTE), "%c ", vm_letter(vm));
    put_column(s, paint, w->name, false, record->names[vm]);
    put_column(s, paint, 9, false, phase_text(f->phase));
    if (!active) {
        line_end(s);
        return;
    }
    if (w->bar)
        put_progress(s, vm, ends ? f->progress_permille : 0, w->bar);
    snprintf(text, sizeof text, "%" PRIu32 " %%", f->progress_permille / 10);
    if (!ends)
        snprintf(text, sizeof text, "-");
    put_column(s, PAINT_NONE, 4, true, text);
    put_column(s, PAINT_NONE, 7, true, human_time(record_left_ms(record, vm), text));
    put_column(s, f->paused ? PAINT_ALARM : PAINT_NONE, 9, true,
               f->paused ? "paused" : human_rate(f->limit_bytes_per_s, text));
    if (w->guest)
        put_column(s, PAINT_NONE, w->guest, true, human_rate(f->guest_bytes_per_s, text));
    put_column(s, PAINT_NONE, 7, true, human_bytes(f->overlay_bytes, text));
    put_why(s, f, w->why);
    line_end(s);
    if (!f->ram)
        return;
    put(s, PAINT_NONE, "    %s", record_ram_text(f, ram));
    line_end(s);
}

/* Whose memory is being sent has a second line. */
static uint32_t lines_of(const struct frame_vm *f)
{
    return phase_is_active(f->phase) && f->ram ? 2 : 1;
}

/* What goes first when there are too few lines. */
static int rank(int32_t phase)
{
    return phase_is_active(phase) ? 0 : phase == PHASE_FAILED ? 1 : phase == PHASE_WAITING ? 2 : 3;
}

static void put_rest(struct sheet *s, const struct record *record, const struct frame *frame, const bool *shown)
{
    uint32_t count[PHASE_COUNT] = { 0 };
    const char *before = " more: ";
    uint32_t rest = 0;

    for (uint32_t i = 0; i < record->vm_count; i++) {
        if (!shown[i]) {
            rest++;
            count[frame->vm[i].phase >= 0 && frame->vm[i].phase < PHASE_COUNT ? frame->vm[i].phase : PHASE_FAILED]++;
        }
    }
    put(s, PAINT_DIM, "  %" PRIu32, rest);
    for (int32_t i = 0; i < PHASE_COUNT; i++) {
        if (!count[i])
            continue;
        put(s, PAINT_DIM, "%s%" PRIu32 " %s", before, count[i], phase_text(i));
        before = ", ";
    }
    line_end(s);
}

static uint32_t lines_of_all(const struct record *record, const struct frame *frame)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < record->vm_count; i++)
        sum += lines_of(&frame->vm[i]);
    return sum;
}

static void put_vms(struct sheet *s, const struct record *record, const struct frame *frame, uint32_t room)
{
    struct widths w = widths_for(s->style.columns);
    bool *shown = calloc(record->vm_count, sizeof *shown);
    uint32_t lines = lines_of_all(record, frame), marked = 0, left = lines <= room ? lines : room ? room - 1 : 0;

    if (!shown)
        return;
    put_titles(s, &w);
    for (int r = 0; r <= 3; r++)
        for (uint32_t i = 0; i < record->vm_count; i++)
            if (rank(frame->vm[i].phase) == r && lines_of(&frame->vm[i]) <= left) {
                shown[i] = true;
                left -= lines_of(&frame->vm[i]);
                marked++;
            }
    for (uint32_t i = 0; i < record->vm_count; i++)
        if (shown[i])
            put_vm(s, record, frame, i, &w);
    if (marked < record->vm_count)
        put_rest(s, record, frame, shown);
    free(shown);
}

/* ---- The whole
 * ------------------------------------------------------------------------------------------------------- */

static void put_header(struct sheet *s, const struct record *record, const struct frame *frame)
{
    char text[HUMAN_SIZE];

    put(s, PAINT_BOLD, "evacuate  %s", human_time((int64_t)frame->t_ms, text));
    put(s, PAINT_NONE, "   %" PRIu32 " guest%s", record->vm_count, record->vm_count == 1 ? "" : "s");
    if (*record->policy)
        put(s, PAINT_NONE, "   policy %s", record->policy);
    put(s, PAINT_NONE, "   U %s",
        frame->link_bytes_per_s ? human_rate(frame->link_bytes_per_s, text) : "not known yet");
    if (s->style.columns >= 76)
        put(s, PAINT_DIM, "   tick %" PRIu32 " ms   seed %" PRIu64, record->tick_ms, record->seed);
    line_end(s);
}

static void event_text(const struct record *record, const struct record_event *e, char *text, size_t size)
{
    char when[HUMAN_SIZE];

    human_time((int64_t)e->t_ms, when);
    if (e->vm < record->vm_count)
        snprintf(text, size, "%s  %c %s: %s", when, vm_letter(e->vm), record->names[e->vm], e->text);
    else
        snprintf(text, size, "%s  %s", when, e->text);
}

static void put_events(struct sheet *s, const struct record *record, uint32_t most)
{
    size_t first = record->event_count > most ? record->event_count - most : 0;
    char text[RECORD_TEXT_SIZE + RECORD_NAME_SIZE + HUMAN_SIZE + 8];

    for (size_t i = first; i < record->event_count; i++) {
        event_text(record, &record->events[i], text, sizeof text);
        put(s, PAINT_DIM, "%s", text);
        line_end(s);
    }
}

uint32_t picture_write(FILE *out, const struct picture_style *style, const struct record *record,
                       const struct migbuf_bin *bins, size_t bin_count, const struct migbuf_shard *shards,
                       size_t shard_count)
{
    const struct ledger ledger = { .bin = bins, .shard = shards, .bins = bin_count, .shards = shard_count };
    const struct frame *frame = record_last(record);
    struct sheet s = { .out = out, .style = *style };
    uint32_t n, left;

    if (!frame)
        return 0;
    n = lines_of_all(record, frame);
    s.style.columns = style->columns < LEAST_COLUMNS  ? LEAST_COLUMNS
                      : style->columns > MOST_COLUMNS ? MOST_COLUMNS
                                                      : style->columns;
    s.most = (style->rows < LEAST_ROWS ? LEAST_ROWS : style->rows) - 1;
    s.row.limit = s.style.columns;
    put_header(&s, record, frame);
    put_omega(&s, record, frame, !bin_count);
    /* A line per bin if all VMs still fit, with two empty lines and the titles; else one for all bins. */
    if (bin_count && s.lines + n + bin_count + 3 <= s.most) {
        line_end(&s);
        put_bins(&s, &ledger);
        line_end(&s);
    } else if (bin_count) {
        put_strip(&s, &ledger);
    }
    left = s.most > s.lines + 1 ? s.most - s.lines - 1 : 0;
    put_vms(&s, record, frame, left);
    left = s.most > s.lines ? s.most - s.lines : 0;
    if (left > 1 && record->event_count) {
        if (left > 2)
            line_end(&s);
        put_events(&s, record, left - 1 > 5 ? 5 : left > 2 ? left - 1 : left);
    }
    return s.lines;
}

/* ---- Where it is shown
 * ----------------------------------------------------------------------------------------------- */

struct picture {
    FILE *out;
    bool terminal;
    struct picture_style style;
    uint32_t lines; /* of the picture on the screen; the cursor is below it */
    uint64_t drawn_ms;
    bool drawn;
    size_t events_said;
    char *text; /* the picture on the screen */
    struct migbuf_bin *bins;
    struct migbuf_shard *shards;
    size_t bin_room, shard_room;
    int32_t *phases; /* plain lines: as last said */
    uint32_t phase_count;
};

/* The descriptor whose cursor is hidden, for the signal handler. */
static volatile sig_atomic_t hidden_on = -1;

static bool environment_has(const char *name, const char *part)
{
    const char *value = getenv(name);

    return value && strstr(value, part);
}

/* As the C library picks the character set, without touching the program's locale. */
static bool environment_is_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);

        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

static bool measure(struct picture *p)
{
    struct winsize size = { 0 };

    if (ioctl(fileno(p->out), TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row) {
        size.ws_col = 80;
        size.ws_row = 24;
    }
    if (p->style.columns == size.ws_col && p->style.rows == size.ws_row)
        return false;
    p->style.columns = size.ws_col;
    p->style.rows = size.ws_row;
    return true;
}

struct picture *picture_new(FILE *out)
{
    struct picture *p = calloc(1, sizeof *p);
    const char *no_color = getenv("NO_COLOR");

    if (!p)
        return NULL;
    p->out = out;
    p->style.colour = !(no_color && *no_color);
    p->style.utf8 = environment_is_utf8();
    p->terminal = isatty(fileno(out)) && !environment_has("TERM", "dumb") && getenv("TERM");
    if (p->terminal) {
        measure(p);
        p->terminal = p->style.columns >= LEAST_COLUMNS && p->style.rows >= LEAST_ROWS;
    }
    return p;
}

void picture_end(void)
{
    static const char text[] = "\033[0m\033[?7h\033[?25h";
    int fd = hidden_on;

    hidden_on = -1;
    if (fd >= 0 && write(fd, text, sizeof text - 1) < 0)
        return; /* the terminal is gone: nothing to restore */
}

void picture_free(struct picture *p)
{
    if (!p)
        return;
    if (p->terminal)
        picture_end();
    free(p->text);
    free(p->bins);
    free(p->shards);
    free(p->phases);
    free(p);
}

/* The ledger as arrays. When there is no memory the picture does without. */
static void take_ledger(struct picture *p, const struct migbuf_bins *bins, struct ledger *ledger)
{
    int bin_count = bins ? migbuf_bins_list(bins, NULL, 0) : 0,
        shard_count = bins ? migbuf_bins_shards(bins, NULL, 0) : 0;

    *ledger = (struct ledger){ 0 };
    if (bin_count <= 0 || shard_count <= 0)
        return;
    if ((size_t)bin_count > p->bin_room || (size_t)shard_count > p->shard_room) {
        free(p->bins);
        free(p->shards);
        p->bin_room = 2 * (size_t)bin_count;
        p->shard_room = 2 * (size_t)shard_count;
        p->bins = calloc(p->bin_room, sizeof *p->bins);
        p->shards = calloc(p->shard_room, sizeof *p->shards);
        if (!p->bins || !p->shards) {
            p->bin_room = p->shard_room = 0;
            return;
        }
    }
    *ledger = (struct ledger){ p->bins, p->shards, (size_t)migbuf_bins_list(bins, p->bins, p->bin_room),
                               (size_t)migbuf_bins_shards(bins, p->shards, p->shard_room) };
}

/* Puts p->text where the old picture was. */
static void show(struct picture *p, uint32_t lines, bool clear)
{
    /* No line may wrap when the terminal has just become narrower. */
    fputs("\033[?25l\033[?7l", p->out);
    hidden_on = fileno(p->out);
    if (clear)
        fputs("\033[H\033[2J", p->out);
    else if (p->lines)
        fprintf(p->out, "\r\033[%" PRIu32 "A", p->lines);
    for (const char *at = p->text, *end; at && (end = strchr(at, '\n')); at = end + 1) {
        fputs("\033[2K", p->out);
        fwrite(at, 1, (size_t)(end + 1 - at), p->out);
    }
    fputs("\033[J\033[?7h", p->out);
    fflush(p->out);
    p->lines = lines;
}

static void draw_terminal(struct picture *p, const struct record *record, const struct ledger *ledger)
{
    bool resized = measure(p);
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    uint32_t lines;

    if (!memory)
        return;
    lines = picture_write(memory, &p->style, record, ledger->bin, ledger->bins, ledger->shard, ledger->shards);
    if (fclose(memory)) {
        free(text);
        return;
    }
    free(p->text);
    p->text = text;
    show(p, lines, resized && p->drawn);
}

static void say_events(struct picture *p, const struct record *record)
{
    char text[RECORD_TEXT_SIZE + RECORD_NAME_SIZE + HUMAN_SIZE + 8];

    for (; p->events_said < record->event_count; p->events_said++) {
        event_text(record, &record->events[p->events_said], text, sizeof text);
        fprintf(p->out, "%s\n", text);
    }
}

static void say_phases(struct picture *p, const struct record *record, const struct frame *frame)
{
    char when[HUMAN_SIZE];

    if (p->phase_count != record->vm_count) {
        free(p->phases);
        p->phases = calloc(record->vm_count, sizeof *p->phases); /* PHASE_WAITING */
        p->phase_count = p->phases ? record->vm_count : 0;
    }
    for (uint32_t i = 0; i < p->phase_count; i++) {
        if (p->phases[i] == frame->vm[i].phase)
            continue;
        p->phases[i] = frame->vm[i].phase;
        fprintf(p->out, "%s  %c %s: phase %s\n", human_time((int64_t)frame->t_ms, when), vm_letter(i), record->names[i],
                phase_text(frame->vm[i].phase));
    }
}

static void say_state(FILE *out, const struct record *record, const struct frame *frame)
{
    char a[HUMAN_SIZE], b[HUMAN_SIZE], ram[RECORD_RAM_SIZE];

    fprintf(out, "%s  used %s of", human_time((int64_t)frame->t_ms, a), human_bytes(frame->used_bytes, b));
    fprintf(out, " %s, reserve %s", human_bytes(record->omega_bytes, a), human_bytes(frame->reserve_bytes, b));
    for (uint32_t i = 0; i < record->vm_count; i++) {
        const struct frame_vm *f = &frame->vm[i];

        if (!phase_is_active(f->phase))
            continue;
        fprintf(out, " | %c %s", vm_letter(i), phase_text(f->phase));
        if (f->phase != PHASE_BACK)
            fprintf(out, " %" PRIu32 " %%", f->progress_permille / 10);
        fprintf(out, ", %s, %s", human_bytes(f->overlay_bytes, a),
                f->paused ? "paused" : human_rate(f->limit_bytes_per_s, b));
        if (f->ram)
            fprintf(out, ", %s", record_ram_text(f, ram));
    }
    fputc('\n', out);
}

void picture_draw(struct picture *p, const struct record *record, const struct migbuf_bins *bins, bool force)
{
    const struct frame *frame = record_last(record);
    struct ledger ledger;
    bool due;

    if (!p || !frame)
        return;
    due = force || !p->drawn || frame->t_ms >= p->drawn_ms + (p->terminal ? REDRAW_MS : PLAIN_MS);
    if (!p->terminal) {
        say_events(p, record);
        say_phases(p, record, frame);
        if (due)
            say_state(p->out, record, frame);
        fflush(p->out);
    } else if (due) {
        take_ledger(p, bins, &ledger);
        draw_terminal(p, record, &ledger);
    }
    if (due) {
        p->drawn_ms = frame->t_ms;
        p->drawn = true;
    }
}

void picture_say(struct picture *p, const char *text)
{
    uint32_t lines;

    if (!p)
        return;
    lines = p->lines;
    if (p->terminal && lines)
        fprintf(p->out, "\r\033[%" PRIu32 "A\033[J", lines);
    fprintf(p->out, "%s\n", text);
    if (p->terminal && lines) {
        p->lines = 0;
        show(p, lines, false);
    }
    fflush(p->out);
}
