/* SPDX-License-Identifier: MIT */
/* ram_text: what the machine tells of itself: states, its part of a history, and the text a restarted host needs. Nothing is
 * decided here. */
#include "ram.h"
#include "memory.h"
#include "text.h"
#include <string.h>

const char *migbuf_ram_state_text(int32_t state)
{
    static const char *const text[] = { "idle", "arming", "armed", "running", "switch", "ending", "post-copy", "broken", "unclear",
                                        "moved", "cancelled", "failed", "lost", "refused" };

    return state >= 0 && state <= MIGBUF_RAM_STATE_REFUSED ? text[state] : "unknown";
}

static int32_t state_now(const struct migbuf_ram *r)
{
    const struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET];
    int32_t phase = (s->here ? s : t)->phase;

    if (r->stage == STAGE_OVER)
        return r->end;
    if (r->stage == STAGE_RUNNING && migbuf__ram_twice(r))
        return MIGBUF_RAM_STATE_UNCLEAR;
    if (r->stage != STAGE_RUNNING)
        return r->stage == STAGE_IDLE        ? MIGBUF_RAM_STATE_IDLE
               : r->idle && !r->migrate_sent ? MIGBUF_RAM_STATE_ARMED
                                             : MIGBUF_RAM_STATE_ARMING;
    if (r->post_seen)
        return phase == MIGBUF_RAM_PHASE_PAUSED || phase == MIGBUF_RAM_PHASE_RECOVER || t->phase == MIGBUF_RAM_PHASE_PAUSED
                   ? MIGBUF_RAM_STATE_BROKEN
                   : MIGBUF_RAM_STATE_POSTCOPY;
    switch (phase) {
    case MIGBUF_RAM_PHASE_PRE_SWITCHOVER:
        return r->continued || r->cancel ? MIGBUF_RAM_STATE_ENDING : MIGBUF_RAM_STATE_SWITCH;
    case MIGBUF_RAM_PHASE_DEVICE:
    case MIGBUF_RAM_PHASE_COMPLETED:
    case MIGBUF_RAM_PHASE_CANCELLING:
        return MIGBUF_RAM_STATE_ENDING;
    case MIGBUF_RAM_PHASE_CANCELLED:
    case MIGBUF_RAM_PHASE_FAILED:
        return s->left ? MIGBUF_RAM_STATE_UNCLEAR : MIGBUF_RAM_STATE_ENDING;
    default:
        return MIGBUF_RAM_STATE_RUNNING;
    }
}

static int is_restored(const struct migbuf_ram *r)
{
    for (int k = 0; k < 2; k++)
        if (migbuf__ram_there(&r->side[k]) && ((r->side[k].ask & (ASK_CAPS | ASK_PARS)) || r->side[k].touched_caps | r->side[k].touched_pars))
            return 0;
    return r->restoring && !r->under_way;
}

static uint64_t downtime_ms(const struct migbuf_ram *r)
{
    if (r->stop_ms && r->resume_ms >= r->stop_ms)
        return r->resume_ms - r->stop_ms;
    return r->last.downtime_ms;
}

int migbuf_ram_info(const struct migbuf_ram *r, struct migbuf_ram_info *info)
{
    const struct side *s, *t;
    uint32_t have;
    struct migbuf_ram_info i;
    uint64_t once;

    if (!r || !info)
        return MIGBUF_E_INVALID;
    s = &r->side[MIGBUF_RAM_SOURCE];
    t = &r->side[MIGBUF_RAM_TARGET];
    have = r->stage == STAGE_IDLE ? 0 : s->here ? s->have : t->have;
    once = r->last.ram_total_bytes - r->last.duplicate_pages * r->last.page_bytes;
    i = (struct migbuf_ram_info){
        .text_revision = r->text_revision,
        .commands_sent = r->commands_sent,
        .state = state_now(r),
        .source_phase = s->phase,
        .target_phase = t->phase,
        .learnt = migbuf__ram_learnt(r),
        .restored = is_restored(r),
        .failed = r->failed,
        .unknown = r->unknown,
        .taken_over = r->taken_over,
        .armed_throttle = !!(have & CAP(CONVERGE)),
        .armed_postcopy = !!(have & CAP(POSTCOPY)),
        .armed_preempt = !!(have & CAP(PREEMPT)),
        .armed_xbzrle = !!(have & CAP(XBZRLE)),
        .armed_multifd = !!(have & CAP(MULTIFD)),
        .decision = r->decision,
        .retry_ms = r->retry_ms,
        .limit_ms = s->have_par.x[PAR_DOWNTIME],
        .throttle_percent = r->throttle_seen,
        .total_ms = r->last.total_ms,
        .downtime_ms = downtime_ms(r),
        .lost_ms = (uint64_t)r->lost_ms + downtime_ms(r) + r->blocktime_ms,
        .sent_bytes = r->last.ram_transferred_bytes,
        .resent_bytes = r->last.ram_normal_bytes > once ? r->last.ram_normal_bytes - once : 0,
        .rounds = r->rounds.finished,
    };
    return migbuf__struct_give(info, &i, sizeof i, MIGBUF__FIRST(struct migbuf_ram_info, rounds));
}

int migbuf_ram_outcome(const struct migbuf_ram *r)
{
    if (!r)
        return MIGBUF_E_INVALID;
    if (r->unknown)
        return MIGBUF_OUTCOME_UNKNOWN;
    if (r->halted)
        return r->failed ? MIGBUF_OUTCOME_REFUSED : MIGBUF_OUTCOME_UNKNOWN;
    return r->idle && !r->under_way ? MIGBUF_OUTCOME_DONE : 0;
}

static int32_t why(const struct migbuf_ram *r)
{
    switch (r->end) {
    case MIGBUF_RAM_STATE_MOVED:
        return MIGBUF_ATTEMPT_DONE;
    case MIGBUF_RAM_STATE_REFUSED:
        return MIGBUF_ATTEMPT_BY_QEMU;
    default:
        break;
    }
    if (r->end == MIGBUF_RAM_STATE_CANCELLED && r->by_host)
        return MIGBUF_ATTEMPT_CANCELLED;
    if (r->died)
        return MIGBUF_ATTEMPT_PEER_GONE;
    if (r->end == MIGBUF_RAM_STATE_CANCELLED && r->decision.action == MIGBUF_RAM_ABORT)
        return r->decision.reason == MIGBUF_RAM_REASON_LATE ? MIGBUF_ATTEMPT_DEADLINE : MIGBUF_ATTEMPT_NO_CONVERGENCE;
    return MIGBUF_ATTEMPT_NOBODY_KNOWS;
}

/* Of the pages that xbzrle's cache had: bytes sent per byte. */
static double encoding_of(const struct migbuf_ram_report *x)
{
    double pages = (double)x->xbzrle_pages + (double)x->xbzrle_overflows, page = (double)x->page_bytes;

    return ((double)x->xbzrle_bytes + (double)x->xbzrle_overflows * page) / (pages * page);
}

int migbuf_ram_attempt(const struct migbuf_ram *r, struct migbuf_attempt *a)
{
    static const int32_t outcome[] = { MIGBUF_ATTEMPT_MOVED, MIGBUF_ATTEMPT_BACK, MIGBUF_ATTEMPT_FAILED, MIGBUF_ATTEMPT_LOST,
                                       MIGBUF_ATTEMPT_REFUSED };
    struct migbuf_convergence c = { .size = sizeof c };

    if (!r || !a)
        return MIGBUF_E_INVALID;
    if (r->stage != STAGE_OVER)
        return MIGBUF_E_STATE;
    a->outcome = outcome[r->end - MIGBUF_RAM_STATE_MOVED];
    a->phase = r->continued ? MIGBUF_ATTEMPT_SWITCH : MIGBUF_ATTEMPT_RAM;
    a->why = why(r);
    a->post_copy = r->post_seen;
    a->limit_ms = r->side[MIGBUF_RAM_SOURCE].have_par.x[PAR_DOWNTIME];
    if (!r->last.has_ram)
        return 0;
    a->ram_ms = r->last.total_ms;
    a->sent_bytes = r->last.ram_transferred_bytes;
    a->rounds = r->rounds.finished;
    a->throttle_percent = r->asked_percent;
    if (r->end == MIGBUF_RAM_STATE_MOVED)
        a->downtime_ms = downtime_ms(r);
    if (r->used_bytes > 0)
        a->ram_bytes = (uint64_t)r->used_bytes;
    if (r->last.xbzrle_pages && r->last.page_bytes)
        a->encoding_ppm = (uint64_t)(encoding_of(&r->last) * 1e6);
    if (migbuf_ram_convergence(r, &c))
        return 0;
    a->link_bytes_per_s = (uint64_t)c.link_bytes_per_s;
    a->dirty_bytes_per_s = (uint64_t)c.rate_bytes_per_s;
    if (c.known && c.set_bytes < 1e18)
        a->set_bytes = (uint64_t)c.set_bytes;
    return 0;
}

/* The text */

/* Small numbers of the handle and of its sides, in the order in which they are written. */
static void flags_of(struct migbuf_ram *r, uint8_t *flag[19])
{
    uint8_t *const all[19] = { &r->stage, &r->end, &r->incoming_sent, &r->migrate_sent, &r->migrate_unsure, &r->post_wanted,
                               &r->post_sent, &r->post_seen, &r->switched, &r->continued, &r->cancel, &r->cancel_sent, &r->by_host,
                               &r->stands, &r->was_running, &r->restoring, &r->side[0].gone, &r->side[1].gone, &r->died };

    memcpy(flag, all, sizeof all);
}

static void numbers_of(struct migbuf_ram *r, int side, uint32_t *number[6])
{
    struct side *s = &r->side[side];
    uint32_t *const all[6] = { &s->known, &s->host, &s->touched_caps, &s->touched_pars, &s->want_pars, &s->host_par.known };

    memcpy(number, all, sizeof all);
}

int migbuf_ram_save(const struct migbuf_ram *r, char *text, size_t capacity, size_t *length)
{
    struct migbuf__writer w = { text, capacity, 0 };
    struct migbuf_ram copy;
    uint8_t *flag[19];
    uint32_t *number[6];

    if (!r || !length || (capacity && !text))
        return MIGBUF_E_INVALID;
    copy = *r;
    flags_of(&copy, flag);
    migbuf__write(&w, "migbuf-ram 1 agreed %llu %u %u %u %u %u", (unsigned long long)r->agreement.deadline_ms, r->agreement.want_ms,
                  r->agreement.most_ms, r->agreement.throttle_most_percent, r->agreement.postcopy, r->agreement.force);
    migbuf__write(&w, " options %llu %llu %u %u %d %d %d flags", (unsigned long long)r->options.max_bandwidth_bytes_per_s,
                  (unsigned long long)r->options.xbzrle_cache_bytes, r->options.multifd_channels, r->options.fix_ms,
                  r->options.sides, r->options.one_way != 0, r->options.host_decides != 0);
    for (size_t k = 0; k < 19; k++)
        migbuf__write(&w, " %u", *flag[k]);
    for (int side = 0; side < 2; side++) {
        migbuf__write(&w, "\nside ");
        migbuf__write_name(&w, r->side[side].uri);
        numbers_of(&copy, side, number);
        for (size_t k = 0; k < 6; k++)
            migbuf__write(&w, " %u", *number[k]);
        for (size_t k = 0; k < PARS; k++)
            migbuf__write(&w, " %llu", (unsigned long long)r->side[side].host_par.x[k]);
    }
    migbuf__write(&w, "\n");
    migbuf__write_end(&w, "end");
    *length = w.length;
    return w.length < capacity ? 0 : MIGBUF_E_TOO_BIG;
}

static void read_side(struct migbuf__reader *r, struct migbuf_ram *ram, int side)
{
    uint32_t *number[6];

    migbuf__read_word(r, "side");
    migbuf__read_name(r, ram->side[side].uri, sizeof ram->side[side].uri);
    if (r->bad || !migbuf__is_utf8(ram->side[side].uri))
        r->bad = 1;
    numbers_of(ram, side, number);
    for (size_t k = 0; k < 6; k++)
        *number[k] = (uint32_t)migbuf__read_number(r, 0, (1u << PARS) - 1);
    for (size_t k = 0; k < PARS; k++)
        ram->side[side].host_par.x[k] = migbuf__read_number(r, 0, UINT64_MAX);
}

static int read_ram(struct migbuf__reader *r, const struct migbuf_allocator *allocator, struct migbuf_ram **out)
{
    struct migbuf_agreement a = { .size = sizeof a };
    struct migbuf_ram_options o = { .size = sizeof o };
    uint8_t *flag[19];
    int rc;

    migbuf__read_word(r, "migbuf-ram");
    migbuf__read_word(r, "1");
    migbuf__read_word(r, "agreed");
    a.deadline_ms = migbuf__read_number(r, 0, UINT64_MAX);
    a.want_ms = (uint32_t)migbuf__read_number(r, 1, MIGBUF_RAM_LIMIT_MOST_MS);
    a.most_ms = (uint32_t)migbuf__read_number(r, 1, MIGBUF_RAM_LIMIT_MOST_MS);
    a.throttle_most_percent = (uint32_t)migbuf__read_number(r, 0, 99);
    a.postcopy = (uint32_t)migbuf__read_number(r, 0, 1);
    a.force = (uint32_t)migbuf__read_number(r, 0, 1);
    migbuf__read_word(r, "options");
    o.max_bandwidth_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    o.xbzrle_cache_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    o.multifd_channels = (uint32_t)migbuf__read_number(r, 0, 255);
    o.fix_ms = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o.sides = (int32_t)migbuf__read_number(r, 1, 3);
    o.one_way = (int32_t)migbuf__read_number(r, 0, 1);
    o.host_decides = (int32_t)migbuf__read_number(r, 0, 1);
    migbuf__read_word(r, "flags");
    rc = r->bad ? MIGBUF_E_PROTOCOL : migbuf_ram_new(&a, &o, allocator, out);
    if (rc)
        return rc;
    flags_of(*out, flag);
    for (size_t k = 0; k < 19; k++)
        *flag[k] = (uint8_t)migbuf__read_number(r, 0, k == 0 ? STAGE_OVER : k == 1 ? MIGBUF_RAM_STATE_REFUSED : 1);
    for (int side = 0; side < 2; side++)
        read_side(r, *out, side);
    return r->bad || r->at != r->end || ((*out)->stage == STAGE_OVER) != ((*out)->end >= MIGBUF_RAM_STATE_MOVED);
}

int migbuf_ram_load(const char *text, size_t length, const struct migbuf_allocator *allocator, struct migbuf_ram **out)
{
    struct migbuf_ram *r = NULL;
    struct migbuf__reader reader;
    int rc;

    if (!text || !out)
        return MIGBUF_E_INVALID;
    if (length > 8192)
        return MIGBUF_E_TOO_BIG;
    reader = migbuf__reader(text, length, "end");
    rc = read_ram(&reader, allocator, &r);
    if (rc) {
        migbuf_ram_free(r);
        return rc == MIGBUF_E_NOMEM ? rc : MIGBUF_E_PROTOCOL;
    }
    r->loaded = 1;
    r->doubt = UINT8_MAX; /* whatever was under way when the earlier process died */
    if (r->stage == STAGE_ARMING && !r->migrate_sent)
        r->stage = STAGE_IDLE;
    for (int side = 0; side < 2; side++)
        if (migbuf__ram_there(&r->side[side]))
            r->side[side].ask = ASK_CAPS | ASK_PARS | ASK_PHASE | ASK_STATUS;
    *out = r;
    return 0;
}
