/* SPDX-License-Identifier: MIT */
/* The test rig: examples/evacuate with what tests alone need, as an extension (extension.h). It reads the options that
 * are added, and passes on what happens to the parts. */
#include "rig.h"
#include "command.h"
#include "extension.h"
#include "numbers.h"
#include "state.h"
#include "trace.h"
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_METHOD = EXTENSION_OPTION + RIG_VALUES, /* before it, those whose values are kept */
    OPTION_OVERLAY,
    OPTION_MIRROR,
    OPTION_MIRRORED,
    OPTION_NOT_MIRRORED,
    OPTION_WINDOW
};

/* Ways of mirroring, by their names. */
enum { MIRROR_OURS, MIRROR_BLOCKING, MIRROR_BACKGROUND };
static const struct migbuf_mirror_setting mirror_setting[] = {
    [MIRROR_OURS] = { .mode = 0 },
    [MIRROR_BLOCKING] = { .mode = MIGBUF_MIRROR_PACED, .granularity_bytes = 65536 },
    [MIRROR_BACKGROUND] = { .mode = MIGBUF_MIRROR_BACKGROUND, .granularity_bytes = 65536 },
};

static const struct option names[] = {
    { "inject", required_argument, NULL, EXTENSION_OPTION + RIG_INJECT },
    { "inject-after", required_argument, NULL, EXTENSION_OPTION + RIG_INJECT_AFTER },
    { "trace", required_argument, NULL, EXTENSION_OPTION + RIG_TRACE },
    { "replay", required_argument, NULL, EXTENSION_OPTION + RIG_REPLAY },
    { "ram-policy", required_argument, NULL, EXTENSION_OPTION + RIG_RAM_POLICY },
    { "method", required_argument, NULL, OPTION_METHOD },
    { "overlay", required_argument, NULL, OPTION_OVERLAY },
    { "mirror", required_argument, NULL, OPTION_MIRROR },
    { "mirrored", required_argument, NULL, OPTION_MIRRORED },
    { "not-mirrored", required_argument, NULL, OPTION_NOT_MIRRORED },
    { "window", required_argument, NULL, OPTION_WINDOW },
    { NULL, 0, NULL, 0 },
};
_Static_assert(sizeof names / sizeof *names - 1 <= EXTENSION_OPTIONS_MAX, "more options than there is room for");

const struct extension extension = {
    .options = names,
    .policies = ", literal, mirror, free, fixed:RATE with 64KiB or more a second, lxd, lxd:SIZE with 1MiB or more, "
                "bradford, or bradford:WRITES:MICROSECONDS",
    .guest = "../../examples/evacuate/guest.elf",
    .second_monitor = true,
    .help =
        "\n"
        "For tests:\n"
        "  --policy P       also: literal (the paper's text unchanged: overflows); fixed:RATE (growth for\n"
        "                   each); mirror (no overlay and no buffer: every disk is mirrored, each write\n"
        "                   goes to both hosts before the guest is told of it); lxd (each VM has a volume\n"
        "                   of its own, a part of the buffer, or of the size in lxd:SIZE, and no limit);\n"
        "                   bradford (after so many writes each waits, and twice as long whenever as many\n"
        "                   more were made: 16384 and 2048 us, or bradford:WRITES:MICROSECONDS); free\n"
        "                   (nobody begins to move before --window is over, and then as with none)\n"
        "  --mirror HOW     who is mirrored, is mirrored so: as the library chooses (ours; with hybrid the\n"
        "                   default); write-blocking from the start with QEMU's own buffer (blocking; with\n"
        "                   mirror); in the background with granules of 64 KiB, write-blocking at the end\n"
        "                   where QEMU can (background)\n"
        "  --mirrored LIST  with hybrid: these VMs are mirrored, as 0,2 or all\n"
        "  --not-mirrored LIST\n"
        "                   these get an overlay; all others as is advised\n"
        "  --ram-policy P   who decides on the end of memory: ours, or, for comparisons, nova, cloudstack,\n"
        "                   kubevirt, proxmox or qemu by their rules (ours)\n"
        "  --method HOW     how limits are set: in a throttle group of our own, or typed, that is with\n"
        "                   block_set_io_throttle's six rates alone, as a host's own call may have it (group)\n"
        "  --overlay KIND   fd: overlays have no name, descriptors lead to them; name: they keep theirs (fd)\n"
        "  --window S       for comparisons: all guests write for S seconds at least from the start of the\n"
        "                   evacuation, at the target after their move. What they wrote in these S seconds is\n"
        "                   told, and what they would have written at the pace of their loads\n"
        "  --trace FILE     the log of all decisions\n"
        "  --replay FILE    only feeds such a log through the library again and compares\n"
        "  --inject WHAT    when the first VM comes to a STEP (\"copying the base\", \"switching over\", ...):\n"
        "                   interrupt@STEP, kill-source@STEP, kill-target@STEP, die@STEP (SIGKILL to itself);\n"
        "                   wipe-limits@STEP or change-limits@STEP by another monitor; fill@STEP or\n"
        "                   fill-for-good@STEP: something else fills the volume, for 2 s or to the end; lose:\n"
        "                   damages the first VM's last disk; overlay@STEP: one that is mirrored changes over\n"
        "                   to an overlay; overlay-die@STEP: and SIGKILL on the way back from its mirror;\n"
        "                   cut@STEP: the connection to the target's disk is cut; die@reporting, when the\n"
        "                   history is written\n"
        "  --inject-after MS\n"
        "                   so long after the step has begun (0)\n"
        "\n",
};

/* The options */

/* "all", or numbers with commas between. */
static int read_vms(const char *name, const char *text, uint64_t *bits, char error[FAIL_SIZE])
{
    const char *at = text;
    char number[4];
    uint32_t vm;

    *bits = strcmp(text, "all") ? 0 : UINT64_MAX;
    for (; *bits != UINT64_MAX; at++) {
        size_t length = strcspn(at, ",");

        snprintf(number, sizeof number, "%.*s", (int)(length < sizeof number ? length : sizeof number - 1), at);
        if (length >= sizeof number || command_number32(name, number, 0, OPTIONS_VMS_MAX - 1, NULL, &vm, error))
            return fail(error, "--%s %s: all, or numbers of VMs from 0 to %d with commas between", name, text, OPTIONS_VMS_MAX - 1);
        *bits |= UINT64_C(1) << vm;
        at += length;
        if (!*at)
            return 0;
    }
    return 0;
}

int extension_read(struct options *o, int option, const char *value, char error[FAIL_SIZE])
{
    static const char *const methods[] = { "group", "typed" }, *const overlays[] = { "fd", "name" };
    static const char *const mirrors[] = { "ours", "blocking", "background" };
    uint32_t number;
    size_t k;

    switch (option) {
    case OPTION_METHOD:
        if (command_choice("method", value, methods, 2, "", &k, error))
            return -1;
        o->typed = k == 1;
        return 0;
    case OPTION_OVERLAY:
        if (command_choice("overlay", value, overlays, 2, "", &k, error))
            return -1;
        o->named_overlays = k == 1;
        return 0;
    case OPTION_MIRROR:
        if (command_choice("mirror", value, mirrors, 3, "", &k, error))
            return -1;
        o->mirror = mirror_setting[k];
        o->mirror_given = true;
        return 0;
    case OPTION_MIRRORED:
    case OPTION_NOT_MIRRORED:
        return read_vms(option == OPTION_MIRRORED ? "mirrored" : "not-mirrored", value, &o->ways[option - OPTION_MIRRORED], error);
    case OPTION_WINDOW:
        if (command_number32("window", value, 1, 3600, "seconds", &number, error))
            return -1;
        o->at_least_ms = number * 1000;
        return 0;
    case EXTENSION_OPTION + RIG_INJECT_AFTER:
        if (command_number32("inject-after", value, 0, 600000, "milliseconds", &number, error))
            return -1;
        break;
    case EXTENSION_OPTION + RIG_INJECT:
        if (!inject_known(value))
            return fail(error,
                        "--inject %s: lose, or interrupt@STEP, kill-source@STEP, kill-target@STEP, die@STEP, "
                        "wipe-limits@STEP, change-limits@STEP, fill@STEP, fill-for-good@STEP, overlay@STEP, overlay-die@STEP, cut@STEP with a step as messages "
                        "name it",
                        value);
        break;
    case EXTENSION_OPTION + RIG_RAM_POLICY:
        if (!others_known(value))
            return fail(error, "--ram-policy %s: ours, nova, cloudstack, kubevirt, proxmox, qemu", value);
        break;
    default:
        break;
    }
    o->added[option - EXTENSION_OPTION] = value;
    return 0;
}

bool extension_read_policy(struct options *o, const char *text)
{
    if (!strcmp(text, "literal"))
        o->policy = POLICY_LITERAL;
    else if (!strcmp(text, "mirror"))
        o->policy = POLICY_MIRROR;
    else if (!strcmp(text, "free"))
        o->policy = POLICY_FREE;
    else if (!strncmp(text, "fixed:", 6) && read_size(text + 6, 1000, 65536, UINT64_C(1) << 40, &o->fixed_bytes_per_s))
        o->policy = POLICY_FIXED;
    else
        return hosts_read(o, text);
    return true;
}

int extension_options(struct options *o, char error[FAIL_SIZE])
{
    if (o->added[RIG_HOST] && (o->state || o->volume))
        return fail(error, "--policy %s makes its volumes and counts for itself: no --state, no --volume", o->added[RIG_HOST]);
    if ((o->ways[0] | o->ways[1]) && o->policy != POLICY_HYBRID)
        return fail(error, "--mirrored, --not-mirrored: with --policy hybrid");
    if (o->policy == POLICY_MIRROR && !o->mirror_given)
        o->mirror = mirror_setting[MIRROR_BLOCKING];
    if (o->mirror_given && o->policy != POLICY_HYBRID && o->policy != POLICY_MIRROR)
        return fail(error, "--mirror: with --policy hybrid or mirror");
    return o->at_least_ms && o->state ? fail(error, "--window and --state: not both") : 0;
}

bool extension_instead(const struct options *o, int *status)
{
    if (!o->added[RIG_REPLAY])
        return false;
    *status = trace_replay(o->added[RIG_REPLAY], stdout) ? 1 : 0;
    return true;
}

/* A fault is this program's alone. A log goes to another file, for what the first program wrote is worth keeping. */
int extension_resume(const struct options *then, const struct options *now, struct options *both,
                     const struct state *state, bool finished, char error[FAIL_SIZE])
{
    static char path[300];
    const char *old = then->added[RIG_TRACE], *new = now->added[RIG_TRACE];

    if (finished && new && (!old || strcmp(old, new)))
        return fail(error, "--state %s: this run is over, another --trace comes too late; --end %s removes it", now->state,
                    now->state);
    both->added[RIG_INJECT] = now->added[RIG_INJECT];
    both->added[RIG_INJECT_AFTER] = now->added[RIG_INJECT_AFTER];
    if (old && !new) {
        snprintf(path, sizeof path, "%.270s.%llu", old,
                 (unsigned long long)json_integer_value(json_object_get(state->file, "restarts")) + 1);
        both->added[RIG_TRACE] = path;
    }
    return 0;
}

/* What happens to the parts */

int extension_open(const struct options *o, char error[FAIL_SIZE])
{
    return recording_open(o->added[RIG_TRACE], error);
}

int extension_close(char error[FAIL_SIZE])
{
    inject_reporting();
    return recording_close(error);
}

void extension_run(struct run *r)
{
    inject_begin(r);
    others_begin();
    hosts_begin();
    window_begin(r);
    recording_on(!r->contrast);
}

void extension_turn(struct run *r, const struct migration *m, uint64_t now)
{
    inject_turn(r, m, now);
    others_turn(r, &r->vm[m->index], now);
    hosts_turn(r, &r->vm[m->index]);
    window_turn(r, m, now);
}

void extension_run_end(struct run *r)
{
    (void)r;
    inject_end();
}

void extension_summary(const struct run *r, const struct migration *m, json_t *o)
{
    window_summary(r, m, o);
}

void extension_tell(const struct run *r, FILE *out)
{
    window_tell(r, out);
}

void extension_check(const struct run *r, const struct migration *m, uint32_t disk, const struct writer_params *w, int fd)
{
    inject_check(r, m, disk, w, fd);
}
