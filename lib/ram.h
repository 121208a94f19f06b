/* SPDX-License-Identifier: MIT */
/* ram, inside: the handle, for the files that work on it. ram.c takes wishes, ram_next.c says what to send, ram_answer.c takes
 * answers, ram_text.c saves and loads. */
#ifndef MIGBUF_LIB_RAM_H
#define MIGBUF_LIB_RAM_H
#include "migbuf/ram.h"

#define MIGBUF__URI_BYTES 512

/* Capabilities, in the order in which they are switched on: what another one needs is first. */
enum { CAP_EVENTS, CAP_PAUSE, CAP_CONVERGE, CAP_POSTCOPY, CAP_BLOCKTIME, CAP_XBZRLE, CAP_MULTIFD, CAP_PREEMPT, CAP_DIRTY_LIMIT, CAPS };
#define CAP(name) (1u << CAP_##name)

/* Parameters: those that are set, and one whose being there tells how QEMU serves requests in post-copy. */
enum { PAR_BANDWIDTH, PAR_POSTCOPY_BANDWIDTH, PAR_DOWNTIME, PAR_INITIAL, PAR_INCREMENT, PAR_MOST, PAR_TRIGGER, PAR_TAILSLOW,
       PAR_AVAIL, PAR_CACHE, PAR_CHANNELS, PAR_QATZIP, PARS };
#define PAR(name) (1u << PAR_##name)

extern const char migbuf__cap_name[CAPS][24];
extern const char migbuf__par_name[PARS][28];

/* What is to be asked of a side. */
enum { ASK_CAPS = 1, ASK_PARS = 2, ASK_PHASE = 4, ASK_STATUS = 8 };

enum { SENT = 4 };

struct values {
    uint32_t known; /* bits */
    uint64_t x[PARS];
};

struct side {
    uint8_t here;      /* this machine speaks to it */
    uint8_t gone;      /* its QEMU has ended */
    uint8_t ask;       /* ASK_… */
    uint8_t answered;  /* ASK_…: what was answered at least once */
    uint8_t singly;    /* capabilities are set one by one, for QEMU refused them together */
    uint8_t running;   /* query-status */
    uint8_t left;      /* QEMU left it standing: postmigrate, finish-migrate */
    uint8_t paused;    /* somebody said stop */
    int32_t phase;     /* MIGBUF_RAM_PHASE_… */
    uint32_t known, host, have, want; /* capabilities: there are; the host's own; in force; ours */
    uint32_t touched_caps, touched_pars; /* sent, done or not: to be given back */
    uint32_t want_pars, ours;            /* parameters that are to be want_par.x; of which sent[] tells */
    struct values host_par, have_par, want_par;
    uint64_t sent[PARS][SENT]; /* ours: the values that QEMU may have taken, the newest, sent or seen in force, first */
    char uri[MIGBUF__URI_BYTES]; /* "": the host does it itself */
};

/* How far it has come. */
enum { STAGE_IDLE, STAGE_ARMING, STAGE_RUNNING, STAGE_OVER };

struct migbuf_ram {
    struct migbuf_allocator allocator;
    struct migbuf_agreement agreement;
    struct migbuf_ram_options options;
    struct side side[2];
    uint8_t stage, end;        /* STAGE_…; MIGBUF_RAM_STATE_… once it is over */
    uint8_t died;              /* it ended because a QEMU did */
    uint8_t incoming_sent;     /* migrate-incoming was carried out */
    uint8_t migrate_sent;      /* `migrate` may have been carried out */
    uint8_t migrate_unsure;    /* and nobody knows */
    uint8_t doubt;             /* DOUBT_…: commands whose outcome was unknown once: a refusal now may mean that they are done */
    uint8_t refused;           /* `migrate` was refused, in doubt */
    uint8_t new_round;         /* a round has ended since the last decision */
    uint8_t post_wanted, post_sent; /* migrate-start-postcopy: decided; sent, and not refused */
    uint8_t post_seen;         /* post-copy has begun */
    uint8_t switched, continued; /* the mirrors have ended; migrate-continue was sent */
    uint8_t cancel, cancel_sent; /* wanted; carried out */
    uint8_t by_host;           /* the host gave up, not a decision */
    uint8_t cancelling;        /* looks in a row that found "cancelling" */
    uint8_t stands;            /* the host has stopped the guest */
    uint8_t was_running;       /* the guest ran before `migrate` */
    uint8_t restoring, loaded;
    uint8_t no_throttle, no_raise, no_postcopy; /* QEMU refused it while it ran */
    uint8_t recover;           /* the next step of mending, RECOVER_… */
    uint8_t halted, failed, unknown, idle;
    uint8_t told;              /* the answer of the query under way was told */
    int32_t under_way, at;     /* MIGBUF_RAM_…, 0: none; of which side */
    uint32_t sending;          /* bits of the capabilities or parameters the command under way sets */
    uint64_t sending_par[PARS]; /* to these */
    uint32_t cannot;           /* capabilities that were refused */
    int32_t phase_before;      /* the source's, before `migrate` was sent */
    int32_t taken_over;
    uint32_t asked_percent, backoff_s;
    uint64_t text_revision, commands_sent, now_ms, retry_ms, stop_ms, resume_ms;
    double link_bytes_per_s;   /* the host's, 0: none */
    double used_bytes;         /* memory in use, 0: not known */
    double lost_ms;            /* by the throttle */
    uint64_t blocktime_ms, broken_bytes, throttle_seen;
    uint32_t seen_caps[2];     /* of the answer under way: known, have */
    struct values seen_par;
    struct migbuf_ram_report fresh, last; /* of the answer under way; the source's last with memory in it */
    struct migbuf_rounds rounds;
    struct migbuf_ram_decision decision;
    char text[4096];
};

enum { DOUBT_INCOMING = 1, DOUBT_MIGRATE = 2, DOUBT_POSTCOPY = 4, DOUBT_CONTINUE = 8 };

enum { RECOVER_TARGET, RECOVER_NOTICE, RECOVER_AGAIN, RECOVER_RESUME };

/* MIGBUF_RAM_… of the command to send now, with side, sending and text set; or 0. */
int32_t migbuf__ram_choose(struct migbuf_ram *r);

/* What is wanted of both sides, from what was agreed, what they know and what they refused. */
void migbuf__ram_arm(struct migbuf_ram *r);

/* What was agreed, as far as it is armed. */
struct migbuf_agreement migbuf__ram_effective(const struct migbuf_ram *r);

/* 0 or MIGBUF_E_…: wants what the decision says. */
int migbuf__ram_want(struct migbuf_ram *r, const struct migbuf_ram_decision *d);

/* The source may be told to cancel: the target cannot have the guest. */
int migbuf__ram_may_cancel(const struct migbuf_ram *r);

/* The source has taken its guest back, and the target may have it too. */
int migbuf__ram_twice(const struct migbuf_ram *r);

/* What both have set is known. */
int migbuf__ram_learnt(const struct migbuf_ram *r);

/* That parameter has a value that we sent. */
int migbuf__ram_was_sent(const struct side *s, int par, uint64_t x);

/* Of the parameters that were touched, those that are still as we set them. */
uint32_t migbuf__ram_ours(const struct migbuf_ram *r, const struct side *s);

/* It is there to be spoken to. */
static inline int migbuf__ram_there(const struct side *s)
{
    return s->here && !s->gone;
}

/* A phase in which something may still happen by itself. */
int migbuf__ram_runs(int32_t phase);

/* Looks at where the guest is, and ends it when that is clear. */
void migbuf__ram_settle(struct migbuf_ram *r);

/* `cont` is to be sent to that side: the guest is there, nowhere else, and stands for no reason but the migration. */
int migbuf__ram_cont(const struct migbuf_ram *r, int side);

/* A look begins: what to ask. */
void migbuf__ram_ask(struct migbuf_ram *r);
#endif
