/* SPDX-License-Identifier: MIT */
/* Command line and defaults. The defaults are measured: with the loads of loads.c they overflow the buffer without a
 * throttle, in a few seconds and with every seed, and fit with one. */
#include "options.h"
#include "command.h"
#include "extension.h"
#include "numbers.h"
#include <errno.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

const char *const pattern_name[PATTERN_COUNT] = { "sequential", "random", "large", "bursty" };

/* Reading values */

static bool read_policy(struct options *o, const char *text)
{
    o->policy_given = true;
    if (!strcmp(text, "paper"))
        o->policy = POLICY_PAPER;
    else if (!strcmp(text, "planner"))
        o->policy = POLICY_PLANNER;
    else if (!strcmp(text, "hybrid"))
        o->policy = POLICY_HYBRID;
    else if (!strcmp(text, "none"))
        o->policy = POLICY_NONE;
    else
        return extension_read_policy(o, text);
    return true;
}

static int read_admission(struct options *o, const char *text, char error[FAIL_SIZE])
{
    static const char *const name[] = { "off", "sjf", "fifo" };
    static const int32_t order[] = { 0, MIGBUF_ADMISSION_SHORTEST, MIGBUF_ADMISSION_FIFO };
    size_t k;

    if (command_choice("admission", text, name, sizeof name / sizeof *name, "", &k, error))
        return -1;
    o->admission = order[k];
    return 0;
}

static int read_patterns(struct options *o, const char *text, char error[FAIL_SIZE])
{
    const char *whole = text;
    size_t room = sizeof o->pattern / sizeof *o->pattern, k;

    for (o->patterns = 0; o->patterns < room; text++) {
        size_t length = strcspn(text, ",");
        char name[32];

        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), text);
        if (command_choice("pattern", name, pattern_name, PATTERN_COUNT, ", or up to 8 with commas between", &k, error))
            return -1;
        o->pattern[o->patterns++] = (enum pattern)k;
        text += length;
        if (!*text)
            return 0;
    }
    return fail(error, "--pattern %s: up to 8 with commas between", whole);
}

static int read_device(struct options *o, const char *text, char error[FAIL_SIZE])
{
    static const char *const name[] = { "virtio-blk", "virtio-scsi", "nvme" };
    size_t k;

    if (command_choice("device", text, name, sizeof name / sizeof *name, " (which QEMU does not migrate)", &k, error))
        return -1;
    o->device = (enum vm_device)k;
    return 0;
}

static int read_dirty(struct options *o, const char *text, char error[FAIL_SIZE])
{
    size_t length = strcspn(text, ":");
    char rate[32] = "";

    if (text[length] && length < sizeof rate)
        snprintf(rate, sizeof rate, "%.*s", (int)length, text);
    if (!*rate || !read_size(rate, 1000, 4096, UINT64_C(1) << 34, &o->dirty_bytes_per_s) ||
        !read_size(text + length + 1, 1024, 4096, UINT64_C(1) << 30, &o->dirty_bytes))
        return fail(error, "--dirty %s: RATE:SET, bytes a second and a size of 4 KiB to 1 GiB, as 20MB:32MiB", text);
    return 0;
}

static int read_accel(struct options *o, const char *text, char error[FAIL_SIZE])
{
    static const char *const name[] = { "tcg", "kvm" };
    size_t k;

    if (command_choice("accel", text, name, sizeof name / sizeof *name, "", &k, error))
        return -1;
    o->kvm = k == 1;
    return 0;
}

/* The options */

enum {
    OPTION_VMS = 256,
    OPTION_BUFFER,
    OPTION_VOLUME,
    OPTION_LINK,
    OPTION_LINKS,
    OPTION_DISK,
    OPTION_DISKS,
    OPTION_DEVICE,
    OPTION_TICK,
    OPTION_POLICY,
    OPTION_ADMISSION,
    OPTION_SEED,
    OPTION_PATTERN,
    OPTION_QD,
    OPTION_PACE,
    OPTION_JSON,
    OPTION_SVG,
    OPTION_WORK_DIR,
    OPTION_STATE,
    OPTION_END,
    OPTION_KEEP_DIR,
    OPTION_QEMU,
    OPTION_ACCEL,
    OPTION_DIRTY,
    OPTION_DOWNTIME,
    OPTION_THROTTLE,
    OPTION_POSTCOPY,
    OPTION_FORCE,
    OPTION_HISTORY,
    OPTION_GUEST
};

static const struct option names[] = {
    { "vms", required_argument, NULL, OPTION_VMS },
    { "buffer", required_argument, NULL, OPTION_BUFFER },
    { "volume", required_argument, NULL, OPTION_VOLUME },
    { "link", required_argument, NULL, OPTION_LINK },
    { "links", required_argument, NULL, OPTION_LINKS },
    { "disk", required_argument, NULL, OPTION_DISK },
    { "disks", required_argument, NULL, OPTION_DISKS },
    { "device", required_argument, NULL, OPTION_DEVICE },
    { "tick", required_argument, NULL, OPTION_TICK },
    { "policy", required_argument, NULL, OPTION_POLICY },
    { "admission", required_argument, NULL, OPTION_ADMISSION },
    { "seed", required_argument, NULL, OPTION_SEED },
    { "pattern", required_argument, NULL, OPTION_PATTERN },
    { "qd", required_argument, NULL, OPTION_QD },
    { "pace", required_argument, NULL, OPTION_PACE },
    { "json", optional_argument, NULL, OPTION_JSON },
    { "svg", required_argument, NULL, OPTION_SVG },
    { "work-dir", required_argument, NULL, OPTION_WORK_DIR },
    { "state", required_argument, NULL, OPTION_STATE },
    { "end", required_argument, NULL, OPTION_END },
    { "keep-dir", no_argument, NULL, OPTION_KEEP_DIR },
    { "qemu", required_argument, NULL, OPTION_QEMU },
    { "accel", required_argument, NULL, OPTION_ACCEL },
    { "dirty", required_argument, NULL, OPTION_DIRTY },
    { "downtime", required_argument, NULL, OPTION_DOWNTIME },
    { "throttle", required_argument, NULL, OPTION_THROTTLE },
    { "postcopy", no_argument, NULL, OPTION_POSTCOPY },
    { "force", no_argument, NULL, OPTION_FORCE },
    { "history", required_argument, NULL, OPTION_HISTORY },
    { "guest", required_argument, NULL, OPTION_GUEST },
};
static const struct option last[] = { COMMAND_OPTIONS };
#define OPTIONS_MAX (sizeof names / sizeof *names + EXTENSION_OPTIONS_MAX + sizeof last / sizeof *last)

static int wrong(char error[FAIL_SIZE], const char *option, const char *value, const char *allowed)
{
    return fail(error, "--%s %s: %s", option, value, allowed);
}

static int read_option(void *options, int option, const char *value, char error[FAIL_SIZE])
{
    struct options *o = options;

    switch (option) {
    case OPTION_VMS:
        return command_number32("vms", value, 1, OPTIONS_VMS_MAX, "VMs", &o->vms, error);
    case OPTION_BUFFER:
        if (!read_size(value, 1024, 8 * MIB, UINT64_C(1) << 44, &o->buffer_bytes))
            return wrong(error, "buffer", value, "a size of 8 MiB to 16 TiB, as 64MiB or 10GiB");
        break;
    case OPTION_VOLUME:
        o->volume = value;
        break;
    case OPTION_LINK:
        if (!read_size(value, 1000, 100000, UINT64_C(1) << 40, &o->link_bytes_per_s))
            return wrong(error, "link", value, "bytes a second, 100K to 1T, as 16MB");
        break;
    case OPTION_LINKS:
        return command_number32("links", value, 1, CONTROL_LINKS_MAX, "links", &o->links, error);
    case OPTION_DISK:
        if (!read_size(value, 1024, 8 * MIB, UINT64_C(1) << 40, &o->disk_bytes) || o->disk_bytes % MIB)
            return wrong(error, "disk", value, "whole MiB from 8 MiB to 1 TiB, as 96MiB");
        break;
    case OPTION_DISKS:
        return command_number32("disks", value, 1, VM_DISKS_MAX, "disks", &o->disks, error);
    case OPTION_DEVICE:
        return read_device(o, value, error);
    case OPTION_TICK:
        return command_number32("tick", value, 50, 10000, "milliseconds", &o->tick_ms, error);
    case OPTION_POLICY:
        if (!read_policy(o, value))
            return fail(error, "--policy %s: paper, planner, hybrid, none%s", value, extension.policies);
        break;
    case OPTION_ADMISSION:
        return read_admission(o, value, error);
    case OPTION_SEED:
        return command_number("seed", value, 0, INT64_MAX, NULL, &o->seed, error);
    case OPTION_PATTERN:
        return read_patterns(o, value, error);
    case OPTION_QD:
        return command_number32("qd", value, 1, GUEST_MAX_DEPTH, "writes in flight", &o->depth, error);
    case OPTION_PACE:
        return command_number32("pace", value, 1, 100000, "writes a second", &o->pace, error);
    case OPTION_JSON:
        o->json_wanted = true;
        o->json = value && strcmp(value, "-") ? value : NULL;
        break;
    case OPTION_SVG:
        o->svg = value;
        break;
    case OPTION_WORK_DIR:
        o->work_dir = value;
        break;
    case OPTION_STATE:
        o->state = value;
        break;
    case OPTION_END:
        o->end = value;
        break;
    case OPTION_KEEP_DIR:
        o->keep = true;
        break;
    case OPTION_QEMU:
        o->qemu = value;
        break;
    case OPTION_ACCEL:
        return read_accel(o, value, error);
    case OPTION_DIRTY:
        return read_dirty(o, value, error);
    case OPTION_DOWNTIME:
        return command_number32("downtime", value, 1, MIGBUF_RAM_LIMIT_MOST_MS, "milliseconds", &o->downtime_ms, error);
    case OPTION_THROTTLE:
        return command_number32("throttle", value, 0, 99, "percent", &o->throttle_percent, error);
    case OPTION_FORCE:
        o->force = true;
        break;
    case OPTION_POSTCOPY:
        o->postcopy = true;
        break;
    case OPTION_HISTORY:
        o->history = value;
        break;
    case OPTION_GUEST:
        o->guest = value;
        break;
    default:
        return extension_read(o, option, value, error);
    }
    return 0;
}

/* Our own options, and those that an extension adds. */
static void list_options(struct option all[static OPTIONS_MAX])
{
    size_t n = sizeof names / sizeof *names, more = 0;

    memcpy(all, names, n * sizeof *names);
    while (more < EXTENSION_OPTIONS_MAX && extension.options[more].name)
        more++;
    memcpy(all + n, extension.options, more * sizeof *names);
    memcpy(all + n + more, last, sizeof last);
}

/* Larger fleets get a larger buffer and a faster link, so that a run takes as long and is as tight. */
static void set_defaults(struct options *o)
{
    static const enum pattern three[] = { PATTERN_SEQUENTIAL, PATTERN_RANDOM, PATTERN_BURSTY };
    static const enum pattern four[] = { PATTERN_SEQUENTIAL, PATTERN_RANDOM, PATTERN_BURSTY, PATTERN_LARGE };

    if (!o->disk_bytes)
        o->disk_bytes = 96 / o->disks * MIB;
    if (!o->buffer_bytes)
        o->buffer_bytes = (o->vms < 3 ? 3 : o->vms) * 32 * MIB;
    if (!o->link_bytes_per_s)
        o->link_bytes_per_s = (o->vms < 3 ? 3 : o->vms) * UINT64_C(8000000) / o->links;
    if (!o->patterns) {
        o->patterns = o->vms < 4 ? 3 : 4;
        memcpy(o->pattern, o->vms < 4 ? three : four, o->patterns * sizeof *four);
    }
}

static void help(FILE *out)
{
    fprintf(out,
            "Usage: %s [OPTIONS]\n"
            "Moves small writing VMs between pairs of QEMUs without shared storage. While a disk is copied, its\n"
            "guest's writes go to an overlay on one small volume that all share; migbuf keeps that volume from\n"
            "filling up. Afterwards every disk is checked for every write its guest was told to be safe.\n"
            "\n"
            "Needs qemu-system-x86_64 and qemu-img. The volume is an ext4 on a loop device for root, where there\n"
            "is mkfs.ext4; for anybody else it is a tmpfs in a user namespace. A tmpfs has exactly the size that\n"
            "was asked for, an ext4 keeps a part for itself.\n"
            "\n"
            "  --vms N          VMs to move, 1 to 64 (3)\n"
            "  --buffer SIZE    the buffer volume (32 MiB for each VM, 96 at least)\n"
            "  --volume DIR     a directory to be the buffer volume as it is; where a quota bounds it, below that\n"
            "  --link RATE      the link all share, bytes a second (8 MB/s for each VM, 24 at least)\n"
            "  --links N        N links of that rate; the VMs take turns on them (1; the default rate is split)\n"
            "  --disk SIZE      each disk (96MiB; of two 48MiB)\n"
            "  --disks N        disks of each VM, 1 or 2, with one budget and the load split between them (1)\n"
            "  --device KIND    virtio-blk, virtio-scsi, or nvme, which QEMU does not migrate (virtio-blk)\n"
            "  --pattern LIST   of sequential (64 KiB), random (4 KiB), bursty (1 MiB, a second in three) and\n"
            "                   large (1 MiB); the VMs take turns (sequential,random,bursty; from 4 VMs on large)\n"
            "  --qd N           writes in flight, 1 to 32 (by pattern: 4, 4, 1, 1)\n"
            "  --pace N         writes a second (by pattern: 110, 130, 16 in a burst, 6)\n"
            "  --policy P       planner (grows into the time when files are deleted); paper; none (no throttle);\n"
            "                   hybrid (planner; guests that would lose by an overlay are mirrored instead).\n"
            "                   Without this option the load first runs with none and all start at once, for the\n"
            "                   contrast, then with planner\n"
            "  --admission A    sjf: one after the other as a link gets idle, smallest disks first; fifo: in\n"
            "                   order; off: all start at once (sjf)\n"
            "  --dirty RATE:SET each guest also writes RATE bytes a second to SET bytes of its memory, a word in\n"
            "                   each page. Without KVM its disk writes end after some seconds: then it need not\n"
            "                   stand while its memory is sent\n"
            "  --downtime MS    the most a guest may stand while its last memory is sent, what the end of its\n"
            "                   disks takes beside it (500)\n"
            "  --throttle P     the most a guest's CPUs may be throttled for it, in percent; 0: not at all (80)\n"
            "  --postcopy       agrees to post-copy: a guest whose memory never gets ready goes on at the target\n"
            "                   before all of it is there. --work-dir must be on a tmpfs, as /dev/shm is\n"
            "  --force          a guest whose memory never gets ready may stand as long as it takes, rather than\n"
            "                   stay\n"
            "  --history FILE   what became of each VM's earlier attempts; this run's are added\n"
            "  --tick MS        how often sizes are measured and limits decided, 50 to 10000 (250)\n"
            "  --seed N         of the random writes and small variations of the loads (1)\n"
            "  --json [FILE]    the summary as one JSON object, on standard output without FILE\n"
            "  --svg FILE       the timeline as a picture\n"
            "  --work-dir DIR   where to put disks, sockets and the volume (TMPDIR or /tmp)\n"
            "  --state DIR      works in DIR, so that it can be killed at any moment: QEMUs go on within their\n"
            "                   limits; the same command, or just --state DIR, comes back to them and finishes\n"
            "                   the run. Other options of a run cannot change then, those of its reports can. A\n"
            "                   run that is over stays in DIR as its summary, and is told again, not begun again.\n"
            "                   There is no contrast then\n"
            "  --end DIR        ends the QEMUs of a run that was killed; removes what is left in DIR of any run\n"
            "  --keep-dir       leaves the disks and QEMU's messages there\n"
            "  --qemu FILE      the QEMU to run, with the qemu-img beside it if there is one\n"
            "                   (qemu-system-x86_64 of PATH)\n"
            "  --accel KIND     tcg, or kvm where there is one. TCG loses track of what a running guest writes:\n"
            "                   with it a guest stands while its memory is sent (tcg)\n"
            "  --guest FILE     the guest program (guest.elf beside this program)\n"
            "%s"
            "  --version        the library's version\n"
            "  -h, --help       this text\n"
            "\n"
            "Sizes take K, M, G, T (also KiB, MB, ...). Ctrl-C gives up: VMs that have not switched over go on at\n"
            "the source with their writes merged back, the others at the target.\n"
            "Exit status: 0 every VM moved, nothing was lost and nothing overflowed; 1 otherwise; 2 wrong options\n"
            "or something is missing here: nothing was begun.\n",
            program_invocation_short_name, extension.help);
}

int options_read(struct options *o, int argc, char *const argv[], char error[FAIL_SIZE])
{
    struct option all[OPTIONS_MAX];
    const struct command command = { "evacuate", all, help, read_option };
    int rc;

    list_options(all);
    *o = (struct options){ .vms = 3, .links = 1, .disks = 1, .tick_ms = 250, .seed = 1, .policy = POLICY_PLANNER,
                           .admission = MIGBUF_ADMISSION_SHORTEST, .downtime_ms = 500,
                           .throttle_percent = 80 };
    rc = command_read(&command, o, argc, argv, error);
    if (rc)
        return rc;
    if (o->volume && o->state)
        return fail(error, "--volume and --state: not both");
    if (extension_options(o, error) || command_no_words(argc, argv, error))
        return -1;
    set_defaults(o);
    /* A contrast is not worth coming back to, and not for somebody else's volume. */
    o->policy_given = o->policy_given || o->state || o->volume;
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

bool options_same_run(const struct options *a, const struct options *b)
{
    return a->vms == b->vms && a->links == b->links && a->disks == b->disks && a->tick_ms == b->tick_ms &&
           a->buffer_bytes == b->buffer_bytes && a->link_bytes_per_s == b->link_bytes_per_s &&
           a->disk_bytes == b->disk_bytes && a->seed == b->seed && a->device == b->device && a->policy == b->policy &&
           a->fixed_bytes_per_s == b->fixed_bytes_per_s && !memcmp(&a->mirror, &b->mirror, sizeof a->mirror) &&
           !memcmp(a->ways, b->ways, sizeof a->ways) && a->admission == b->admission && a->depth == b->depth && a->pace == b->pace &&
           a->downtime_ms == b->downtime_ms && a->throttle_percent == b->throttle_percent &&
           a->postcopy == b->postcopy && a->force == b->force && a->dirty_bytes_per_s == b->dirty_bytes_per_s &&
           a->dirty_bytes == b->dirty_bytes && a->kvm == b->kvm &&
           a->named_overlays == b->named_overlays && same_text(a->qemu, b->qemu) && a->patterns == b->patterns &&
           !memcmp(a->pattern, b->pattern, a->patterns * sizeof *a->pattern);
}

const char *options_policy_text(enum policy policy, uint64_t fixed_bytes_per_s, char text[40])
{
    static const char *const name[] = { "paper", "literal", "fixed", "none", "planner", "mirror", "hybrid", "lxd", "bradford", "free" };

    if (policy == POLICY_FIXED)
        snprintf(text, 40, "fixed:%llu", (unsigned long long)fixed_bytes_per_s);
    else
        snprintf(text, 40, "%s", name[policy]);
    return text;
}

const char *options_admission_text(int32_t admission)
{
    return admission == MIGBUF_ADMISSION_SHORTEST ? "sjf" : admission == MIGBUF_ADMISSION_FIFO ? "fifo" : "off";
}
