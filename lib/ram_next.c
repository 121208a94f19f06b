/* SPDX-License-Identifier: MIT */
/* ram_next: which QMP command comes next, from where the machine stands and what is wanted of it. Takes no answer and no wish. */
#include "ram.h"
#include "text.h"
#include <string.h>

const char migbuf__cap_name[CAPS][24] = { "events", "pause-before-switchover", "auto-converge", "postcopy-ram", "postcopy-blocktime",
                                          "xbzrle", "multifd", "postcopy-preempt", "dirty-limit" };
const char migbuf__par_name[PARS][28] = { "max-bandwidth", "max-postcopy-bandwidth", "downtime-limit", "cpu-throttle-initial",
                                          "cpu-throttle-increment", "max-cpu-throttle", "throttle-trigger-threshold",
                                          "cpu-throttle-tailslow", "avail-switchover-bandwidth", "xbzrle-cache-size",
                                          "multifd-channels", "multifd-qatzip-level" };

/* Writing commands: all of them fit, a uri of 511 bytes as JSON is at most 3072. */

static int32_t to_send(struct migbuf_ram *r, int side, int32_t kind)
{
    r->at = side;
    return kind;
}

static struct migbuf__writer writer(struct migbuf_ram *r)
{
    return (struct migbuf__writer){ r->text, sizeof r->text, 0 };
}

static int32_t write_uri(struct migbuf_ram *r, int side, int32_t kind)
{
    struct migbuf__writer w = writer(r);

    migbuf__write(&w, "{\"uri\":");
    migbuf__write_json_string(&w, r->side[side].uri);
    migbuf__write(&w, kind == MIGBUF_RAM_RESUME ? ",\"resume\":true}" : "}");
    return to_send(r, side, kind);
}

/* The lowest of those to switch on, or the highest of those to switch off, which go first: none needs what is not there. */
static uint32_t one_of(uint32_t on, uint32_t off)
{
    if (!off)
        return on & (0u - on);
    while (off & (off - 1))
        off &= off - 1;
    return off;
}

/* Those that differ, in one command; QEMU takes all of them or none. */
static int32_t set_caps(struct migbuf_ram *r, int side, uint32_t want)
{
    struct migbuf__writer w = writer(r);
    const struct side *s = &r->side[side];
    uint32_t differ = (s->have ^ want) & s->known;
    const char *comma = "";

    if (differ && s->singly)
        differ = one_of(differ & want, differ & ~want);
    if (!differ)
        return 0;
    r->sending = differ;
    migbuf__write(&w, "{\"capabilities\":[");
    for (int k = 0; k < CAPS; k++)
        if (differ >> k & 1) {
            migbuf__write(&w, "%s{\"capability\":\"%s\",\"state\":%s}", comma, migbuf__cap_name[k], want >> k & 1 ? "true" : "false");
            comma = ",";
        }
    migbuf__write(&w, "]}");
    return to_send(r, side, MIGBUF_RAM_SET_CAPABILITIES);
}

static int32_t set_pars(struct migbuf_ram *r, int side, uint32_t which, const struct values *want)
{
    struct migbuf__writer w = writer(r);
    const struct side *s = &r->side[side];
    const char *comma = "{";

    r->sending = 0;
    for (int k = 0; k < PARS; k++) {
        unsigned long long x = want->x[k];

        if (!(which >> k & 1) || x == s->have_par.x[k])
            continue;
        r->sending |= 1u << k;
        r->sending_par[k] = x;
        migbuf__write(&w, "%s\"%s\":", comma, migbuf__par_name[k]);
        migbuf__write(&w, k != PAR_TAILSLOW ? "%llu" : x ? "true" : "false", x);
        comma = ",";
    }
    migbuf__write(&w, "}");
    return r->sending ? to_send(r, side, MIGBUF_RAM_SET_PARAMETERS) : 0;
}

/* What to do next */

static int32_t ask(struct migbuf_ram *r)
{
    static const int32_t kind[] = { MIGBUF_RAM_GET_CAPABILITIES, MIGBUF_RAM_GET_PARAMETERS, MIGBUF_RAM_GET_MIGRATION,
                                    MIGBUF_RAM_GET_STATUS };

    for (int side = 0; side < 2; side++)
        for (int k = 0; k < 4 && migbuf__ram_there(&r->side[side]); k++)
            if (r->side[side].ask >> k & 1)
                return to_send(r, side, kind[k]);
    return 0;
}

/* The target first: what it refuses is not armed at the source. */
static int32_t arm(struct migbuf_ram *r)
{
    struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET];
    int32_t kind = 0;

    for (int side = 1; side >= 0 && !kind; side--)
        if (migbuf__ram_there(&r->side[side]))
            kind = set_caps(r, side, r->side[side].want);
    for (int side = 1; side >= 0 && !kind; side--)
        if (migbuf__ram_there(&r->side[side]))
            kind = set_pars(r, side, r->side[side].want_pars, &r->side[side].want_par);
    if (!kind && migbuf__ram_there(t) && t->uri[0] && !r->incoming_sent)
        kind = write_uri(r, MIGBUF_RAM_TARGET, MIGBUF_RAM_INCOMING);
    if (!kind && migbuf__ram_there(s) && s->uri[0] && !r->migrate_sent)
        kind = write_uri(r, MIGBUF_RAM_SOURCE, MIGBUF_RAM_MIGRATE);
    return kind;
}

static int32_t mend(struct migbuf_ram *r)
{
    struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET];
    int s_there = migbuf__ram_there(s), t_there = migbuf__ram_there(t);

    if (s_there && s->phase == MIGBUF_RAM_PHASE_POSTCOPY && t->phase == MIGBUF_RAM_PHASE_PAUSED)
        return to_send(r, MIGBUF_RAM_SOURCE, MIGBUF_RAM_PAUSE);
    if ((s_there ? s : t)->phase != MIGBUF_RAM_PHASE_PAUSED || r->now_ms < r->retry_ms)
        return 0;
    if (!t_there)
        r->recover = RECOVER_RESUME;
    if (r->recover == RECOVER_NOTICE)
        return to_send(r, MIGBUF_RAM_TARGET, MIGBUF_RAM_PAUSE);
    if (r->recover != RECOVER_RESUME)
        return t->uri[0] ? write_uri(r, MIGBUF_RAM_TARGET, MIGBUF_RAM_RECOVER) : 0;
    return s_there && s->uri[0] ? write_uri(r, MIGBUF_RAM_SOURCE, MIGBUF_RAM_RESUME) : 0;
}

static int32_t tell_to_go_on(struct migbuf_ram *r, const char *state)
{
    struct migbuf__writer w = writer(r);

    migbuf__write(&w, "{\"state\":\"%s\"}", state);
    return to_send(r, MIGBUF_RAM_SOURCE, MIGBUF_RAM_CONTINUE);
}

static int32_t run(struct migbuf_ram *r)
{
    struct side *s = &r->side[MIGBUF_RAM_SOURCE];
    int32_t kind;

    if (r->post_seen)
        return mend(r);
    if (!migbuf__ram_there(s))
        return 0;
    if (r->cancel && !r->cancel_sent && migbuf__ram_may_cancel(r))
        return to_send(r, MIGBUF_RAM_SOURCE, MIGBUF_RAM_CANCEL);
    switch (s->phase) {
    case MIGBUF_RAM_PHASE_ACTIVE:
        kind = set_pars(r, MIGBUF_RAM_SOURCE, s->want_pars, &s->want_par);
        return kind || !r->post_wanted || r->post_sent ? kind : to_send(r, MIGBUF_RAM_SOURCE, MIGBUF_RAM_START_POSTCOPY);
    case MIGBUF_RAM_PHASE_PRE_SWITCHOVER:
        return r->switched && !r->continued && !r->cancel ? tell_to_go_on(r, "pre-switchover") : 0;
    case MIGBUF_RAM_PHASE_CANCELLING: /* cancelled just before its pause, it waits for this (migration_maybe_pause) */
        return r->cancelling > 1 ? tell_to_go_on(r, "cancelling") : 0;
    default:
        return 0;
    }
}

/* Once it is over. The conditions stand in migbuf__ram_settle. */
static int32_t let_run(struct migbuf_ram *r)
{
    for (int side = 0; side < 2; side++)
        if (migbuf__ram_cont(r, side))
            return to_send(r, side, MIGBUF_RAM_CONT);
    return 0;
}

int migbuf__ram_was_sent(const struct side *s, int par, uint64_t x)
{
    int found = 0;

    for (int k = 0; k < SENT && s->ours >> par & 1; k++)
        found |= s->sent[par][k] == x;
    return found;
}

uint32_t migbuf__ram_ours(const struct migbuf_ram *r, const struct side *s)
{
    uint32_t ours = 0;

    for (int k = 0; k < PARS; k++)
        if (r->loaded || migbuf__ram_was_sent(s, k, s->have_par.x[k]))
            ours |= 1u << k;
    return ours & s->touched_pars;
}

static int32_t give_back(struct migbuf_ram *r)
{
    for (int side = 0; side < 2; side++) {
        struct side *s = &r->side[side];
        int32_t kind = 0;

        if (!migbuf__ram_there(s))
            continue;
        if (s->touched_caps)
            kind = set_caps(r, side, (s->have & ~s->touched_caps) | (s->host & s->touched_caps));
        if (!kind && s->touched_pars)
            kind = set_pars(r, side, migbuf__ram_ours(r, s), &s->host_par);
        if (kind)
            return kind;
    }
    return 0;
}

int32_t migbuf__ram_choose(struct migbuf_ram *r)
{
    int32_t kind = ask(r);

    if (!kind && r->stage == STAGE_ARMING)
        kind = arm(r);
    if (!kind && r->stage == STAGE_RUNNING)
        kind = run(r);
    if (!kind && r->stage >= STAGE_RUNNING)
        kind = let_run(r);
    return !kind && r->restoring ? give_back(r) : kind;
}

/* Said before it is known what becomes of it: then it is ours, whatever that is. */
static void start_command(struct migbuf_ram *r)
{
    struct side *s = &r->side[r->at];

    r->told = 0;
    memset(r->seen_caps, 0, sizeof r->seen_caps);
    r->seen_par.known = 0;
    r->commands_sent += r->under_way > MIGBUF_RAM_GET_STATUS;
    switch (r->under_way) {
    case MIGBUF_RAM_SET_CAPABILITIES:
        r->text_revision += (s->touched_caps | r->sending) != s->touched_caps;
        s->touched_caps |= r->sending;
        break;
    case MIGBUF_RAM_SET_PARAMETERS:
        r->text_revision += (s->touched_pars | r->sending) != s->touched_pars;
        s->touched_pars |= r->sending;
        break;
    case MIGBUF_RAM_MIGRATE:
        r->text_revision++;
        r->migrate_sent = r->migrate_unsure = 1;
        break;
    case MIGBUF_RAM_START_POSTCOPY:
        r->text_revision++;
        r->post_sent = 1;
        break;
    case MIGBUF_RAM_CONTINUE:
        if (!r->cancel_sent) {
            r->text_revision++;
            r->continued = 1;
        }
        break;
    default:
        break;
    }
}

int migbuf_ram_next(struct migbuf_ram *r, struct migbuf_ram_command *command)
{
    static const char *const name[] = { "", "query-migrate-capabilities", "query-migrate-parameters", "query-migrate",
                                        "query-status", "migrate-set-capabilities", "migrate-set-parameters", "migrate-incoming",
                                        "migrate", "migrate-start-postcopy", "migrate-continue", "migrate_cancel", "cont",
                                        "migrate-pause", "migrate-recover", "migrate" };
    static const uint32_t with_arguments = 1u << MIGBUF_RAM_SET_CAPABILITIES | 1u << MIGBUF_RAM_SET_PARAMETERS |
                                           1u << MIGBUF_RAM_INCOMING | 1u << MIGBUF_RAM_MIGRATE | 1u << MIGBUF_RAM_CONTINUE |
                                           1u << MIGBUF_RAM_RECOVER | 1u << MIGBUF_RAM_RESUME;

    if (!r || !command)
        return MIGBUF_E_INVALID;
    if (!r->under_way && !r->halted) {
        r->under_way = migbuf__ram_choose(r);
        if (r->under_way)
            start_command(r);
        else
            r->idle = 1;
    }
    if (!r->under_way)
        return 0;
    *command = (struct migbuf_ram_command){
        .kind = r->under_way,
        .side = r->at,
        .out_of_band = r->under_way == MIGBUF_RAM_PAUSE || r->under_way == MIGBUF_RAM_RECOVER,
        .name = name[r->under_way],
        .arguments = with_arguments >> r->under_way & 1 ? r->text : NULL,
    };
    return 1;
}
