/* SPDX-License-Identifier: MIT */
/* disk, inside: the handle, for the files that work on it. disk.c makes it and looks at it, disk_ask.c takes what a caller
 * asks, disk_next.c says what to send, disk_found.c takes what QEMU was found to have, disk_answer.c what became of a
 * command, disk_text.c saves and loads. */
#ifndef MIGBUF_LIB_DISK_H
#define MIGBUF_LIB_DISK_H
#include "migbuf/disk.h"
#include "throttle_config.h"

#define MIGBUF__MAX_NODES 16
#define MIGBUF__QDEV_BYTES 512
#define MIGBUF__NODE_BYTES 32
#define MIGBUF__SENT 8

struct node {
    char name[MIGBUF__NODE_BYTES];
    char qdev[MIGBUF__QDEV_BYTES];      /* "" before it is known */
    struct migbuf_throttle_config host; /* the host's own, to be restored */
    struct migbuf_throttle_config home; /* what the host's group has that it came from, when last seen */
    struct migbuf_throttle_config set;  /* six rates: ours on this disk, valid while joined */
    uint8_t found, gone;                /* in this query; known once, and not in the last one */
    uint8_t joined;                     /* member of our group; six rates: ours is in force on it */
    uint8_t waits;                      /* the group's limit was raised, and this disk has not been told */
    uint8_t suspect, refused;           /* block_set_io_throttle refused once, and after looking once more */
    uint8_t unsure;                     /* six rates, after a load or an unknown outcome: set and given back in any case */
    uint8_t held_open;                  /* back in its host's group, which must lose its limit again */
};

/* What is to become of the guest. New or loaded: nobody has decided yet, and it stays as it is. */
enum { MIGBUF__GUEST_AS_IT_IS, MIGBUF__GUEST_RUNS, MIGBUF__GUEST_STANDS };

/* What the caller wants. */
struct wanted {
    struct migbuf_limits limits; /* ours, when `limited` */
    uint8_t limited, guest;      /* MIGBUF__GUEST_… */
};

struct migbuf_disk {
    struct migbuf_allocator allocator;
    char group[72];
    struct node *node;
    uint32_t nodes, at;  /* at: the node the command under way is about */
    int32_t under_way;   /* MIGBUF_DISK_…, 0: none */
    uint8_t gives_back;  /* the command under way takes its node out of our group */
    uint8_t empties;     /* the command under way takes the limit from a group of the host's */
    uint8_t halted;      /* nothing more is sent until the caller asks for something again */
    uint8_t failed;      /* it is halted because QEMU refused */
    uint8_t unknown_limits, unknown_guest; /* sent, and nobody knows whether it was carried out */
    uint8_t changed;     /* something of what was asked for last has been carried out */
    uint8_t idle;        /* `next` had nothing to send */
    uint8_t query, restoring, learnt, set_once;
    uint8_t object;      /* the group object is there */
    uint8_t doubtful;    /* it may be there from an earlier process, or not at all */
    uint8_t loaded;      /* an earlier process may have died between restoring and deleting the group: once tried */
    uint8_t plain;       /* qom-set does not work on it */
    uint8_t six_rates;       /* no group of ours: block_set_io_throttle on each disk */
    uint8_t stopped;     /* it stands because of us, or may do so */
    uint8_t looked;      /* `running` and `paused` are of after the last call */
    uint8_t running, paused; /* query-status: it runs; it stands because somebody said stop */
    int32_t taken_over, unclear;
    uint64_t commands_sent, text_revision;
    uint64_t unit_bytes;                    /* of ours, 0: they do not count in units */
    struct wanted now, before;              /* before: what is wanted again when QEMU refuses all of it */
    struct migbuf_throttle_config in_force; /* of the group, valid while a node has joined; after a load as seen last */
    struct migbuf_throttle_config sending;  /* what the command under way sets */
    struct migbuf_throttle_config sent[MIGBUF__SENT]; /* what was sent last, in a ring */
    uint32_t sent_count;
    char text[8192];
};

/* How many disks are there, that is, not unplugged; how many of these are in our group. */
uint32_t migbuf__disk_there(const struct migbuf_disk *d);
uint32_t migbuf__disk_joined(const struct migbuf_disk *d);

/* It is there, and has or may have something of ours. */
int migbuf__disk_is_out(const struct node *n);

/* Something of ours is in QEMU, or may be; and nothing is any more, as was asked for. */
int migbuf__disk_has_anything(const struct migbuf_disk *d);
int migbuf__disk_is_restored(const struct migbuf_disk *d);

/* The strictest of all disks' own limits, ours laid over them; six rates: of one disk, and its part of ours. */
struct migbuf_throttle_config migbuf__disk_merged(const struct migbuf_disk *d, const struct migbuf_limits *ours);
struct migbuf_throttle_config migbuf__disk_part(const struct migbuf_disk *d, const struct node *n);

/* What stands in for no limit at all in a group of the host's, until it is taken away. */
struct migbuf_throttle_config migbuf__disk_open_group(void);

/* MIGBUF_DISK_… of the command to send now, written to d->text and d->sending, or 0. */
int32_t migbuf__disk_choose(struct migbuf_disk *d);

/* A question, which changes nothing in QEMU. */
int migbuf__disk_only_looks(int32_t kind);

/* The node of that name, or NULL. */
struct node *migbuf__disk_node(const struct migbuf_disk *d, const char *name);
#endif
