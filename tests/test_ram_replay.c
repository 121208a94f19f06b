/* SPDX-License-Identifier: MIT */
/* The machine for memory against recorded migrations of real QEMUs (tests/data/ram): whole, and with the host dying, the
 * target dying and somebody giving up after every line. The recording does not react to what the machine sends; so this is
 * about what it reads, and about what it must never send. Every answer goes through JSON, as QEMU wrote it. */
#include "unit.h"
#include "migbuf/ram.h"
#include "migbuf/report.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define LINES 1200

/* The members of query-migrate, and the short names of the recording. */
static const struct {
    const char *key, *object, *member;
} names[] = {
    { "ed", NULL, "expected-downtime" }, { "su", NULL, "setup-time" }, { "tt", NULL, "total-time" }, { "dt", NULL, "downtime" },
    { "th", NULL, "cpu-throttle-percentage" }, { "bt", NULL, "postcopy-blocktime" }, { "tx", "ram", "transferred" },
    { "re", "ram", "remaining" }, { "to", "ram", "total" }, { "nb", "ram", "normal-bytes" }, { "mb", "ram", "multifd-bytes" },
    { "pb", "ram", "precopy-bytes" }, { "db", "ram", "downtime-bytes" }, { "ob", "ram", "postcopy-bytes" }, { "du", "ram", "duplicate" },
    { "no", "ram", "normal" }, { "sy", "ram", "dirty-sync-count" }, { "pr", "ram", "postcopy-requests" },
    { "dm", "ram", "dirty-sync-missed-zero-copy" }, { "dr", "ram", "dirty-pages-rate" }, { "ps", "ram", "pages-per-second" },
    { "mbps", "ram", "mbps" }, { "pz", "ram", "page-size" }, { "sk", "ram", "skipped" }, { "xb", "xbzrle-cache", "bytes" },
    { "xp", "xbzrle-cache", "pages" }, { "xc", "xbzrle-cache", "cache-size" }, { "xm", "xbzrle-cache", "cache-miss" },
    { "xr", "xbzrle-cache", "cache-miss-rate" }, { "xe", "xbzrle-cache", "encoding-rate" }, { "xo", "xbzrle-cache", "overflow" },
};

struct recording {
    char name[64], *line[LINES];
    int lines;
};

/* What a side says, as the recording has come. */
struct side {
    json_t *migration, *capabilities, *parameters;
    char status[32];
};

static struct play {
    const struct recording *rec;
    struct side side[2];
    struct migbuf_ram *ram;
    int migrates, postcopies;
    int postcopy_seen, continued, gone[2];
    char text[9000]; /* what the host has on its disk */
    size_t length;
    uint64_t revision, t_ms;
} play;

static char *file_text;
static struct recording recordings[40];
static int count, old; /* old: 7.2 */
static json_t *first_capabilities, *first_parameters;

static void load(const char *release)
{
    char path[400];
    FILE *f;
    size_t n;
    struct recording *rec = NULL;

    snprintf(path, sizeof path, "%s/qemu-%s.txt", MIGBUF_DATA, release);
    free(file_text); /* of another release */
    json_decref(first_capabilities);
    json_decref(first_parameters);
    first_capabilities = first_parameters = NULL;
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    file_text = calloc(1, 400000);
    n = fread(file_text, 1, 399999, f);
    fclose(f);
    ck_assert(n > 1000 && n < 399999);
    count = 0;
    old = !strcmp(release, "7.2");
    for (char *line = strtok(file_text, "\n"); line; line = strtok(NULL, "\n")) {
        if (*line == '#')
            continue;
        if (!strncmp(line, "== ", 3)) {
            rec = &recordings[count++];
            *rec = (struct recording){ .lines = 0 };
            snprintf(rec->name, sizeof rec->name, "%s", line + 3);
            continue;
        }
        ck_assert(rec && rec->lines < LINES);
        rec->line[rec->lines++] = line;
    }
}

static json_t *value_of(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);

    return v ? v : json_string(text);
}

/* K=V or -K, into an answer of query-migrate. */
static void change(json_t *migration, const char *word)
{
    const char *value = strchr(word, '=');
    size_t n = value ? (size_t)(value - word) : strlen(word + 1);
    const char *key = value ? word : word + 1;

    if (!strncmp(key, "st", n) && n == 2)
        value ? json_object_set_new(migration, "status", json_string(value + 1)) : json_object_del(migration, "status");
    else if (!strncmp(key, "er", n) && n == 2)
        value ? json_object_set_new(migration, "error-desc", json_string(value + 1)) : json_object_del(migration, "error-desc");
    else if (!strncmp(key, "bv", n) && n == 2) {
        json_t *list = json_array();

        json_array_append_new(list, value_of(value + 1));
        json_object_set_new(migration, "postcopy-vcpu-blocktime", list);
    } else {
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            if (strlen(names[k].key) == n && !strncmp(names[k].key, key, n)) {
                json_t *object = migration;

                if (names[k].object && !json_object_get(migration, names[k].object))
                    json_object_set_new(migration, names[k].object, json_object());
                if (names[k].object)
                    object = json_object_get(migration, names[k].object);
                if (value)
                    json_object_set_new(object, names[k].member, value_of(value + 1));
                else
                    json_object_del(object, names[k].member);
                if (names[k].object && !json_object_size(object))
                    json_object_del(migration, names[k].object);
                return;
            }
        ck_abort_msg("unknown %s", word);
    }
}

/* The lists of capabilities and parameters, out of the recording "none". */
static void load_first(void)
{
    for (int r = 0; r < count; r++)
        for (int k = 0; k < recordings[r].lines && !strcmp(recordings[r].name, "none"); k++) {
            char line[4000], *word, *save;
            int caps = strstr(recordings[r].line[k], " query-migrate-capabilities ") != NULL;

            if (!caps && !strstr(recordings[r].line[k], " query-migrate-parameters "))
                continue;
            snprintf(line, sizeof line, "%s", recordings[r].line[k]);
            if (caps)
                first_capabilities = json_array();
            else
                first_parameters = json_object();
            strtok_r(line, " ", &save);
            strtok_r(NULL, " ", &save);
            strtok_r(NULL, " ", &save);
            while ((word = strtok_r(NULL, " ", &save)) != NULL) {
                char *value = strchr(word, '=');

                *value++ = 0;
                if (caps)
                    json_array_append_new(first_capabilities, json_pack("{s:s,s:b}", "capability", word, "state", atoi(value)));
                else
                    json_object_set_new(first_parameters, word, value_of(value));
            }
        }
    ck_assert(first_capabilities && first_parameters);
}

/* What a command does, as far as the machine asks for it later. */
static void set_capabilities(json_t *list, const char *arguments)
{
    json_t *a = json_loads(arguments, 0, NULL), *wanted, *entry;
    size_t i, k;

    ck_assert_ptr_nonnull(a);
    json_array_foreach(json_object_get(a, "capabilities"), i, wanted) json_array_foreach(list, k, entry)
    {
        if (json_equal(json_object_get(entry, "capability"), json_object_get(wanted, "capability")))
            json_object_set(entry, "state", json_object_get(wanted, "state"));
    }
    json_decref(a);
}

static const char *status_in(const json_t *migration)
{
    const char *s = json_string_value(json_object_get(migration, "status"));

    return s ? s : "";
}

/* What must never be sent. */
static void check(const struct migbuf_ram_command *c)
{
    const char *status = status_in(play.side[0].migration);

    switch (c->kind) {
    case MIGBUF_RAM_MIGRATE:
        ck_assert_int_eq(play.migrates++, 0);
        break;
    case MIGBUF_RAM_START_POSTCOPY:
        ck_assert_int_eq(play.postcopies++, 0);
        ck_assert_str_eq(status, "active");
        break;
    case MIGBUF_RAM_CANCEL:
        ck_assert_msg(!play.postcopy_seen && !play.continued, "%s, %d ms: cancel in %s", play.rec->name, (int)play.t_ms, status);
        ck_assert(!strcmp(status, "active") || !strcmp(status, "setup") || !strcmp(status, "pre-switchover"));
        ck_assert(!play.postcopies || !strcmp(status, "pre-switchover"));
        break;
    case MIGBUF_RAM_CONTINUE:
        play.continued |= !strcmp(status, "pre-switchover");
        ck_assert(!strcmp(status, "pre-switchover") || !strcmp(status, "cancelling"));
        break;
    case MIGBUF_RAM_RECOVER:
    case MIGBUF_RAM_RESUME:
        ck_assert_str_eq(status, "postcopy-paused");
        break;
    case MIGBUF_RAM_CONT:
        ck_assert(!play.postcopy_seen && c->side == MIGBUF_RAM_SOURCE);
        break;
    default:
        break;
    }
}

static void save_text(void)
{
    struct migbuf_ram_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_ram_info(play.ram, &i), 0);
    if (i.text_revision == play.revision)
        return;
    play.revision = i.text_revision;
    ck_assert_int_eq(migbuf_ram_save(play.ram, play.text, sizeof play.text, &play.length), 0);
}

static void pump(void)
{
    struct migbuf_ram_command c;
    int left = 100;

    while (migbuf_ram_next(play.ram, &c) == 1) {
        struct side *s = &play.side[c.side];
        char status[100], *dumped = NULL;
        const char *answer = "{}";
        struct migbuf_error error = { .text = "" };

        ck_assert_int_gt(left--, 0);
        save_text();
        check(&c);
        switch (c.kind) {
        case MIGBUF_RAM_GET_CAPABILITIES:
            answer = dumped = json_dumps(s->capabilities, 0);
            break;
        case MIGBUF_RAM_GET_PARAMETERS:
            answer = dumped = json_dumps(s->parameters, 0);
            break;
        case MIGBUF_RAM_GET_MIGRATION:
            answer = dumped = json_dumps(s->migration, 0);
            break;
        case MIGBUF_RAM_GET_STATUS:
            snprintf(status, sizeof status, "{\"status\": \"%s\", \"running\": %s}", s->status, strcmp(s->status, "running") ? "false" : "true");
            answer = status;
            break;
        case MIGBUF_RAM_SET_CAPABILITIES:
            set_capabilities(s->capabilities, c.arguments);
            break;
        case MIGBUF_RAM_SET_PARAMETERS: {
            json_t *a = json_loads(c.arguments, 0, NULL);

            ck_assert_ptr_nonnull(a);
            json_object_update(s->parameters, a);
            json_decref(a);
            break;
        }
        case MIGBUF_RAM_CONT:
            strcpy(s->status, "running");
            break;
        default:
            break;
        }
        ck_assert_msg(migbuf_report_to_ram(play.ram, c.kind, 0, answer, strlen(answer), &error) == 0, "%s: %s", answer, error.text);
        free(dumped);
    }
    save_text();
}

static struct migbuf_ram_info info(void)
{
    struct migbuf_ram_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_ram_info(play.ram, &i), 0);
    return i;
}

static void end_play(void)
{
    migbuf_ram_free(play.ram);
    for (int k = 0; k < 2; k++) {
        json_decref(play.side[k].migration);
        json_decref(play.side[k].capabilities);
        json_decref(play.side[k].parameters);
    }
    memset(&play, 0, sizeof play);
}

static void begin_play(const struct recording *rec, int sides)
{
    struct migbuf_agreement a;
    struct migbuf_ram_options o;

    play.rec = rec;
    for (int k = 0; k < 2; k++) {
        play.side[k].migration = json_object();
        play.side[k].capabilities = json_deep_copy(first_capabilities);
        play.side[k].parameters = json_deep_copy(first_parameters);
    }
    strcpy(play.side[0].status, "running");
    strcpy(play.side[1].status, "inmigrate");
    ck_assert_int_eq(migbuf_agreement_init(&a, sizeof a), 0);
    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    a.postcopy = 1;
    a.deadline_ms = 10 * 3600 * 1000;
    o.sides = sides;
    ck_assert_int_eq(migbuf_ram_new(&a, &o, NULL, &play.ram), 0);
    ck_assert_int_eq(migbuf_ram_learn(play.ram), 0);
    pump();
    ck_assert_int_eq(migbuf_ram_start(play.ram, "unix:s", "unix:t"), 0);
    pump();
    ck_assert_int_eq(play.migrates, 1);
}

/* One line of the recording. */
static void step(const char *text)
{
    char line[4000], *save, *word;
    struct side *s;
    int side;

    snprintf(line, sizeof line, "%s", text);
    play.t_ms = strtoull(strtok_r(line, " ", &save), NULL, 10);
    side = *strtok_r(NULL, " ", &save) == 'T';
    s = &play.side[side];
    word = strtok_r(NULL, " ", &save);
    if (!strcmp(word, "query-migrate")) {
        while ((word = strtok_r(NULL, " ", &save)) != NULL)
            change(s->migration, word);
        play.postcopy_seen |= !side && strncmp(status_in(s->migration), "postcopy", 8) == 0;
    } else if (!strcmp(word, "query-status"))
        snprintf(s->status, sizeof s->status, "%s", strtok_r(NULL, " ", &save));
    else if (!strcmp(word, "gone")) {
        play.gone[side] = 1;
        ck_assert_int_eq(migbuf_ram_gone(play.ram, side), 0);
    } else if (*word >= 'A' && *word <= 'Z') {
        char data[100], *status = strtok_r(NULL, " ", &save);
        struct migbuf_error error = { .text = "" };

        snprintf(data, sizeof data, "{\"status\": \"%s\"}", status ? status : "");
        if (!strcmp(word, "STOP"))
            strcpy(s->status, "finish-migrate");
        if (!strcmp(word, "RESUME"))
            strcpy(s->status, "running");
        if (status && !strcmp(status, "completed") && !side)
            strcpy(s->status, "postmigrate");
        play.postcopy_seen |= status && strncmp(status, "postcopy", 8) == 0;
        ck_assert_msg(migbuf_report_event_to_ram(play.ram, side, word, status ? data : NULL, strlen(data), play.t_ms, &error) == 1, "%s %s",
                      text, error.text);
    } else
        return; /* what was sent then */
    ck_assert_int_eq(migbuf_ram_look(play.ram, play.t_ms), 0);
    pump();
    if (info().state == MIGBUF_RAM_STATE_SWITCH && !migbuf_ram_switch(play.ram))
        pump();
}

/* What each comes to. Both: 3; to a file, or to nobody: the source alone. */
static const struct {
    const char *name;
    int sides;
    int32_t end;
} outcomes[] = {
    { "auto-converge", 3, MIGBUF_RAM_STATE_MOVED },
    { "auto-converge-armed", 3, MIGBUF_RAM_STATE_CANCELLED },
    { "auto-converge-long-rounds", 3, MIGBUF_RAM_STATE_CANCELLED },
    { "avail-switchover-bandwidth", 3, MIGBUF_RAM_STATE_MOVED },
    { "background-snapshot", 1, MIGBUF_RAM_STATE_MOVED },
    { "cancelled", 3, MIGBUF_RAM_STATE_CANCELLED },
    { "failed", 3, MIGBUF_RAM_STATE_FAILED },
    { "forced-by-stop", 3, MIGBUF_RAM_STATE_MOVED },
    { "mapped-ram-file", 1, MIGBUF_RAM_STATE_MOVED }, /* 7.2 knows no "file:": failed */
    { "multifd", 3, MIGBUF_RAM_STATE_MOVED },
    { "none", 1, -1 },
    { "pause-before-switchover", 3, MIGBUF_RAM_STATE_MOVED },
    { "postcopy", 3, MIGBUF_RAM_STATE_MOVED },
    { "postcopy-pause-before-switchover", 3, MIGBUF_RAM_STATE_MOVED },
    { "postcopy-paused-cancelled", 3, -1 },
    { "postcopy-preempt", 3, MIGBUF_RAM_STATE_MOVED },
    { "postcopy-recover", 3, MIGBUF_RAM_STATE_MOVED },
    { "postcopy-target-killed", 3, MIGBUF_RAM_STATE_LOST },
    { "pre-switchover-cancelled", 3, MIGBUF_RAM_STATE_CANCELLED },
    { "precopy-converging", 3, MIGBUF_RAM_STATE_MOVED },
    { "precopy-not-converging", 3, MIGBUF_RAM_STATE_MOVED },
    { "settings-during-migration", 3, MIGBUF_RAM_STATE_CANCELLED },
    { "slow-link-converging", 3, MIGBUF_RAM_STATE_MOVED },
    { "slow-link-forced-by-limit", 3, MIGBUF_RAM_STATE_MOVED },
    { "slow-link-forced-by-stop", 3, MIGBUF_RAM_STATE_MOVED },
    { "xbzrle", 3, MIGBUF_RAM_STATE_MOVED },
    { "xbzrle-incompressible", 3, MIGBUF_RAM_STATE_CANCELLED },
};

static int of(const struct recording *rec)
{
    for (size_t k = 0; k < sizeof outcomes / sizeof *outcomes; k++)
        if (!strcmp(outcomes[k].name, rec->name))
            return (int)k;
    ck_abort_msg("%s: what must it come to?", rec->name);
    return 0;
}

static int32_t end_of(const struct recording *rec)
{
    return !strcmp(rec->name, "mapped-ram-file") && old ? MIGBUF_RAM_STATE_FAILED : outcomes[of(rec)].end;
}

static void is_given_back(void)
{
    ck_assert_int_eq(migbuf_ram_restore(play.ram), 0);
    pump();
    ck_assert_int_eq(info().restored, 1);
    for (int k = 0; k < 2; k++)
        ck_assert_msg((json_equal(play.side[k].capabilities, first_capabilities) && json_equal(play.side[k].parameters, first_parameters)) ||
                          play.gone[k] || info().state == MIGBUF_RAM_STATE_LOST,
                      "%s: side %d has something of ours", play.rec->name, k);
}

static void whole(const struct recording *rec)
{
    int32_t end = end_of(rec);

    begin_play(rec, outcomes[of(rec)].sides);
    for (int k = 0; k < rec->lines; k++)
        step(rec->line[k]);
    if (end >= 0) {
        ck_assert_msg(info().state == end, "%s: %s, not %s", rec->name, migbuf_ram_state_text(info().state), migbuf_ram_state_text(end));
        is_given_back();
    }
    end_play();
}

/* The host dies after `lines`, another one loads what it had saved, and nothing else is different. */
static void host_dies(const struct recording *rec, int lines)
{
    int32_t before, end = end_of(rec);

    begin_play(rec, outcomes[of(rec)].sides);
    for (int k = 0; k < lines; k++)
        step(rec->line[k]);
    before = info().state;
    migbuf_ram_free(play.ram);
    ck_assert_int_eq(migbuf_ram_load(play.text, play.length, NULL, &play.ram), 0);
    play.revision = 0;
    pump();
    ck_assert_int_eq(migbuf_ram_look(play.ram, play.t_ms), 0);
    pump();
    ck_assert_msg(info().state == before || info().state == end, "%s, line %d: %s, not %s", rec->name, lines, migbuf_ram_state_text(info().state),
                  migbuf_ram_state_text(before));
    for (int k = lines; k < rec->lines; k++)
        step(rec->line[k]);
    if (end >= 0) {
        ck_assert_msg(info().state == end, "%s, after line %d: %s, not %s", rec->name, lines, migbuf_ram_state_text(info().state),
                      migbuf_ram_state_text(end));
        is_given_back();
    }
    end_play();
}

/* The target dies after `lines`; the recording's last word of the source stands. */
static void target_dies(const struct recording *rec, int lines)
{
    int post;

    begin_play(rec, outcomes[of(rec)].sides);
    for (int k = 0; k < lines; k++)
        step(rec->line[k]);
    post = play.postcopy_seen;
    if (info().state < MIGBUF_RAM_STATE_MOVED) {
        ck_assert_int_eq(migbuf_ram_gone(play.ram, MIGBUF_RAM_TARGET), 0);
        pump();
        if (post)
            ck_assert_msg(info().state == MIGBUF_RAM_STATE_LOST, "%s, line %d: %s", rec->name, lines, migbuf_ram_state_text(info().state));
        else
            ck_assert(info().state != MIGBUF_RAM_STATE_LOST && info().state != MIGBUF_RAM_STATE_MOVED);
    }
    end_play();
}

/* Somebody gives up after `lines`. */
static void given_up(const struct recording *rec, int lines)
{
    int rc;

    begin_play(rec, outcomes[of(rec)].sides);
    for (int k = 0; k < lines; k++)
        step(rec->line[k]);
    rc = migbuf_ram_cancel(play.ram);
    ck_assert(rc == 0 || rc == MIGBUF_E_STATE);
    if (play.postcopy_seen || play.continued)
        ck_assert_int_eq(rc, MIGBUF_E_STATE);
    pump();
    end_play();
}

static void replay(const char *release)
{
    load(release);
    load_first();
    ck_assert_int_ge(count, 25);
    for (int r = 0; r < count; r++)
        whole(&recordings[r]);
}

static void cut(const char *release)
{
    load(release);
    load_first();
    for (int r = 0; r < count; r++) {
        int every = recordings[r].lines > 300 ? recordings[r].lines / 100 : 1; /* one line says the same for a minute */

        if (unit_rounds(100) < 100)
            every *= 100 / unit_rounds(100); /* fewer of them where each takes thirty times as long */
        for (int k = 0; k <= recordings[r].lines; k += every) {
            host_dies(&recordings[r], k);
            target_dies(&recordings[r], k);
            given_up(&recordings[r], k);
        }
    }
}

START_TEST(replay_of_7_2)
{
    replay("7.2");
}
END_TEST

START_TEST(replay_of_10_0)
{
    replay("10.0");
}
END_TEST

START_TEST(cut_at_every_line_of_7_2)
{
    cut("7.2");
}
END_TEST

START_TEST(cut_at_every_line_of_10_0)
{
    cut("10.0");
}
END_TEST

/* A window of 8192 pages, touched one after the other at 4000 a second: what is said of it after each round, also those in
 * which its throttle changed. */
START_TEST(the_working_set_is_found)
{
    static const char *const release[2] = { "7.2", "10.0" };

    for (int q = 0; q < 2; q++) {
        load(release[q]);
        load_first();
        for (int r = 0; r < count; r++) {
            struct migbuf_convergence c = { .size = sizeof c };
            double least = 1e18, most = 0;

            if (strcmp(recordings[r].name, "auto-converge-armed"))
                continue;
            begin_play(&recordings[r], 3);
            for (int k = 0; k < recordings[r].lines; k++) {
                step(recordings[r].line[k]);
                if (!migbuf_ram_convergence(play.ram, &c) && c.known && c.rounds >= 6) {
                    least = fmin(least, c.set_bytes);
                    most = fmax(most, c.set_bytes);
                }
            }
            ck_assert_msg(least > 0.8 * 8192 * 4096 && most < 1.5 * 8192 * 4096, "QEMU %s: W %.1f to %.1f MB", release[q], least / 1e6,
                          most / 1e6);
            ck_assert_msg(fabs(c.link_bytes_per_s - 10e6) < 0.6e6, "QEMU %s: link %.1f MB/s", release[q], c.link_bytes_per_s / 1e6);
            end_play();
        }
    }
}
END_TEST

/* One word changes in each page: 5 bytes a page. Random contents: nearly all of it. */
START_TEST(what_xbzrle_saves_is_found)
{
    static const char *const release[2] = { "7.2", "10.0" };

    for (int q = 0; q < 2; q++) {
        load(release[q]);
        load_first();
        for (int r = 0; r < count; r++) {
            struct migbuf_convergence c = { .size = sizeof c };
            struct migbuf_attempt a;

            if (strncmp(recordings[r].name, "xbzrle", 6))
                continue;
            begin_play(&recordings[r], 3);
            for (int k = 0; k < recordings[r].lines; k++) {
                step(recordings[r].line[k]);
                if (!migbuf_ram_convergence(play.ram, &c) && strcmp(recordings[r].name, "xbzrle"))
                    ck_assert_msg(c.encoding > 0.9 && c.encoding <= 1, "QEMU %s: %f", release[q], c.encoding);
            }
            ck_assert_int_eq(migbuf_attempt_init(&a), 0);
            ck_assert_int_eq(migbuf_ram_attempt(play.ram, &a), 0);
            if (!strcmp(recordings[r].name, "xbzrle"))
                ck_assert_msg(a.encoding_ppm > 500 && a.encoding_ppm < 5000, "QEMU %s: %d", release[q], (int)a.encoding_ppm);
            else
                ck_assert_msg(a.encoding_ppm > 800000 && a.encoding_ppm <= 1000000, "QEMU %s: %d", release[q], (int)a.encoding_ppm);
            end_play();
        }
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { replay_of_7_2, replay_of_10_0, cut_at_every_line_of_7_2, cut_at_every_line_of_10_0,
                                   the_working_set_is_found, what_xbzrle_saves_is_found, NULL };

    return unit_run("ram_replay", tests, 0);
}
