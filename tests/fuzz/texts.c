/* SPDX-License-Identifier: MIT */
/* Saved texts of buffer, disk and ram. One that is loaded is saved as one that is loaded and saved the same; and what was
 * loaded goes on, whatever it says, without sending anything that is no JSON.
 *
 * An input is a byte that says whose it is, one for the clock, and the text without its last line. The line with the checksum is
 * made here, or nothing would get behind it. */
#include "fuzz.h"
#include "migbuf/buffer.h"
#include "migbuf/disk.h"
#include "migbuf/ram.h"
#include "text.h"
#ifdef WITH_JSON
#include "json.h"
#endif

#define TEXT_BYTES 300000

static char saved[2][TEXT_BYTES];

/* What two of them must agree upon, and nothing else of them. */
typedef int save_function(const void *machine, char *text, size_t capacity, size_t *length);
typedef int load_function(const char *text, size_t length, const struct migbuf_allocator *allocator, void **machine);
typedef void use_function(void *machine, struct choices *c);
typedef void free_function(void *machine);

static uint64_t clock_ms;

static int save_buffer(const void *machine, char *text, size_t capacity, size_t *length)
{
    return migbuf_buffer_save(machine, text, capacity, length);
}

static int load_buffer(const char *text, size_t length, const struct migbuf_allocator *allocator, void **machine)
{
    return migbuf_buffer_load(text, length, clock_ms, allocator, (struct migbuf_buffer **)machine);
}

static void check_decision(const struct migbuf_decision *d)
{
    fuzz_check(d->action >= MIGBUF_ACTION_KEEP && strcmp(migbuf_action_text(d->action), "unknown"), "action %d", d->action);
    fuzz_check(strcmp(migbuf_reason_text(d->reason), "unknown"), "reason %d", d->reason);
}

static void use_buffer(void *machine, struct choices *c)
{
    static struct migbuf_decision d[256];
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_buffer *b = machine;
    uint64_t now_ms = clock_ms;

    for (int k = 0; k < 3; k++) {
        int n;

        now_ms += 1 + take_below(c, 4000);
        fuzz_check(migbuf_buffer_stats(b, &stats) == 0, "stats");
        n = migbuf_buffer_tick(b, now_ms, d, 256);
        fuzz_check(n >= 0 || n == MIGBUF_E_RANGE || n == MIGBUF_E_CLOCK || n == MIGBUF_E_TOO_BIG, "tick: %d", n);
        for (int i = 0; i < n; i++) {
            struct migbuf_buffer_view view = { .size = sizeof view };
            uint8_t what = take_byte(c);

            check_decision(&d[i]);
            fuzz_check(migbuf_buffer_view(b, d[i].id, &view) == 0, "view");
            if (what & 1)
                migbuf_buffer_outcome(b, d[i].id, MIGBUF_OUTCOME_DONE + what / 2 % 3);
            if (what & 8)
                migbuf_buffer_sample(b, now_ms, &(struct migbuf_sample){ .id = d[i].id, .file_bytes = take_number(c) }, 1);
            if (what & 16)
                migbuf_buffer_resync(b, d[i].id, NULL, what >> 5 & 1);
        }
    }
}

static void free_buffer(void *machine)
{
    migbuf_buffer_free(machine);
}

static int save_disk(const void *machine, char *text, size_t capacity, size_t *length)
{
    return migbuf_disk_save(machine, text, capacity, length);
}

static int load_disk(const char *text, size_t length, const struct migbuf_allocator *allocator, void **machine)
{
    return migbuf_disk_load(text, length, allocator, (struct migbuf_disk **)machine);
}

static void check_arguments(const char *arguments)
{
#ifdef WITH_JSON
    char *text;
    int rc;

    if (!arguments)
        return;
    text = exact_copy(arguments, strlen(arguments));
    rc = migbuf__json_clean(text, strlen(arguments));
    fuzz_check(rc >= 0, "no JSON (%d): %s", rc, arguments);
    free(text);
#else
    (void)arguments;
#endif
}

static void use_disk(void *machine, struct choices *c)
{
    struct migbuf_disk *d = machine;
    struct migbuf_disk_info info = { .size = sizeof info };
    struct migbuf_disk_command command;
    struct migbuf_throttle_config config;

    for (int k = 0; k < 60; k++) {
        uint8_t what = take_byte(c);

        fuzz_check(migbuf_disk_info(d, &info) == 0, "info");
        fuzz_check(migbuf_disk_host_limits(d, "n0", &config) <= 0, "host limits");
        migbuf_disk_qdev(d, "n0");
        if (migbuf_disk_next(d, &command) != 1) {
            if (what & 1)
                migbuf_disk_restore(d);
            else
                migbuf_disk_set(d, &(struct migbuf_limits){ .iops_wr = 1 + what, .iops_size = what & 2 ? 65536 : 0, .bps_wr = what & 4 ? 999 : 0 });
            if (migbuf_disk_next(d, &command) != 1)
                break;
        }
        check_arguments(command.arguments);
        if (command.kind == MIGBUF_DISK_STATUS)
            migbuf_disk_status(d, what & 1 ? "running" : "paused", what & 1);
        migbuf_disk_answered(d, what & 8 ? MIGBUF_OUTCOME_DONE : MIGBUF_OUTCOME_DONE + what / 16 % 3);
    }
}

static void free_disk(void *machine)
{
    migbuf_disk_free(machine);
}

static int save_ram(const void *machine, char *text, size_t capacity, size_t *length)
{
    return migbuf_ram_save(machine, text, capacity, length);
}

static int load_ram(const char *text, size_t length, const struct migbuf_allocator *allocator, void **machine)
{
    return migbuf_ram_load(text, length, allocator, (struct migbuf_ram **)machine);
}

/* What a host may tell of its own at any time. */
static void tell_ram(struct migbuf_ram *r, struct choices *c)
{
    struct migbuf_ram_decision d = { .action = take_byte(c) & 7, .limit_ms = (uint32_t)take_number(c), .throttle_percent = take_byte(c) };
    struct migbuf_convergence v = { .size = sizeof v };
    uint64_t now_ms = take_number(c);

    migbuf_ram_link(r, take_double(c));
    migbuf_ram_stands(r, d.action & 1);
    migbuf_ram_uri(r, "unix:a", d.action & 2 ? "unix:b" : NULL);
    migbuf_ram_event(r, d.action & 1, 1 + (d.action & 3), take_byte(c) & 15, now_ms);
    if (migbuf_ram_convergence(r, &v) == 0)
        fuzz_check(v.left_bytes >= 0 && v.set_bytes >= 0 && v.rate_bytes_per_s >= 0 && v.encoding > 0, "left %g W %g r %g e %g", v.left_bytes,
                   v.set_bytes, v.rate_bytes_per_s, v.encoding);
    migbuf_ram_apply(r, &d);
}

static void use_ram(void *machine, struct choices *c)
{
    struct migbuf_ram *r = machine;
    struct migbuf_ram_info info = { .size = sizeof info };
    struct migbuf_ram_command command;
    struct migbuf_attempt a;
    uint64_t now_ms = clock_ms;

    for (int k = 0; k < 80; k++) {
        uint8_t what = take_byte(c);

        fuzz_check(migbuf_ram_info(r, &info) == 0, "info");
        fuzz_check(strcmp(migbuf_ram_state_text(info.state), "unknown"), "state %d", info.state);
        migbuf_attempt_init(&a);
        migbuf_ram_attempt(r, &a);
        if (migbuf_ram_next(r, &command) != 1) {
            if (what % 8 == 0)
                migbuf_ram_start(r, "unix:s", "unix:t");
            else if (what % 8 == 1)
                migbuf_ram_cancel(r);
            else if (what % 8 == 2)
                migbuf_ram_restore(r);
            else if (what % 8 == 3)
                migbuf_ram_switch(r);
            else if (what % 8 == 4)
                migbuf_ram_gone(r, what >> 4 & 1);
            else if (what % 8 == 5)
                tell_ram(r, c);
            else
                migbuf_ram_look(r, now_ms += what);
            if (migbuf_ram_next(r, &command) != 1)
                continue;
        }
        check_arguments(command.arguments);
        if (command.kind == MIGBUF_RAM_GET_STATUS)
            migbuf_ram_status(r, what & 1 ? "running" : "inmigrate", what & 1);
        if (command.kind == MIGBUF_RAM_GET_MIGRATION)
            migbuf_ram_found(r, &(struct migbuf_ram_report){ .phase = what & 15, .total_ms = what, .ram_total_bytes = take_number(c) });
        if (command.kind == MIGBUF_RAM_GET_CAPABILITIES)
            migbuf_ram_found_capability(r, "events", what & 1);
        if (command.kind == MIGBUF_RAM_GET_PARAMETERS)
            migbuf_ram_found_parameter(r, "downtime-limit", take_number(c));
        migbuf_ram_answered(r, what & 64 ? MIGBUF_OUTCOME_DONE : MIGBUF_OUTCOME_DONE + what / 16 % 3);
    }
}

static void free_ram(void *machine)
{
    migbuf_ram_free(machine);
}

/* Behind the checksum: a text with the right one. */
static char *complete(struct choices *c, size_t *length)
{
    struct migbuf__writer w = { NULL, (size_t)(c->end - c->at) + 40, (size_t)(c->end - c->at) };
    char *exact;

    w.text = malloc(w.capacity);
    if (!w.text)
        abort();
    if (w.length)
        memcpy(w.text, c->at, w.length);
    migbuf__write_end(&w, "end");
    exact = exact_copy(w.text, w.length);
    *length = w.length;
    free(w.text);
    return exact;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        load_function *load;
        save_function *save;
        use_function *use;
        free_function *free;
    } machines[] = { { load_buffer, save_buffer, use_buffer, free_buffer },
                     { load_disk, save_disk, use_disk, free_disk },
                     { load_ram, save_ram, use_ram, free_ram } };
    struct choices c = { data, data + size };
    uint8_t which = take_below(&c, 3), begun = take_byte(&c);
    size_t length, again[2];
    void *machine = NULL, *other = NULL;
    char *text = complete(&c, &length);
    int rc;

    clock_ms = begun < 128 ? begun : UINT64_C(1) << (begun - 128) / 2;
    rc = machines[which].load(text, length, NULL, &machine);
    fuzz_check(rc == 0 || rc == MIGBUF_E_PROTOCOL || rc == MIGBUF_E_TOO_BIG, "load: %d", rc);
    fuzz_check(rc == 0 || !machine, "refused, and something is there");
    if (rc == 0) {
        rc = machines[which].save(machine, saved[0], TEXT_BYTES, &again[0]);
        fuzz_check(rc == 0, "loaded, and not saved: %d (%zu)", rc, again[0]);
        rc = machines[which].load(saved[0], again[0], NULL, &other);
        fuzz_check(rc == 0, "what was saved is not loaded: %d\n%s", rc, saved[0]);
        fuzz_check(machines[which].save(other, saved[1], TEXT_BYTES, &again[1]) == 0, "saved once");
        fuzz_check(again[0] == again[1] && !memcmp(saved[0], saved[1], again[0]), "saved\n%s\nand then\n%s", saved[0], saved[1]);
        for (size_t k = 0; k < again[0]; k++)
            fuzz_check(saved[0][k] == '\n' || (saved[0][k] >= 0x20 && saved[0][k] < 0x7f), "byte %02x", (unsigned char)saved[0][k]);
        for (uint32_t at = 1; at < 12; at++) { /* each allocation fails once */
            struct failing memory = { .every = at, .left = 1 };
            struct migbuf_allocator allocator = { &memory, failing_resize };
            void *none = NULL;

            rc = machines[which].load(text, length, &allocator, &none);
            fuzz_check(rc == (memory.left ? 0 : MIGBUF_E_NOMEM) && (rc == 0) == (none != NULL), "without memory: %d", rc);
            machines[which].free(none);
            fuzz_check(memory.held == 0, "%lld bytes are not given back", (long long)memory.held);
        }
        c = (struct choices){ (const uint8_t *)text + length / 3, (const uint8_t *)text + length };
        machines[which].use(machine, &c);
        machines[which].free(machine);
        machines[which].free(other);
    }
    free(text);
    return 0;
}
