/* SPDX-License-Identifier: MIT */
/* evacuate: moves N writing VMs through one small buffer and proves that nothing was lost. Wiring only: options, the
 * two runs, what is written where, and that nothing is left behind. */
#include "command.h"
#include "extension.h"
#include "state.h"
#include "summary.h"
#include "svg.h"
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_FAILED 1
#define EXIT_WRONG 2

struct program {
    struct options options;
    FILE *out;           /* for people: standard error when standard output is for the JSON object */
    char directory[200]; /* ours alone; empty before it is made */
    char kernel[512];
    int signals;
    struct picture *picture;
    struct state state;
    bool resuming, finished; /* what --state found */
    struct run contrast, run;
    bool contrasted;
    json_t *summary;
};

/* From here on SIGINT and its like are read by the loop: nobody is interrupted in the middle of anything. */
static int catch_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int find_guest(struct program *p, char error[FAIL_SIZE])
{
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    if (p->options.guest) {
        snprintf(p->kernel, sizeof p->kernel, "%s", p->options.guest);
    } else {
        self[n < 0 ? 0 : n] = 0;
        slash = strrchr(self, '/');
        snprintf(p->kernel, sizeof p->kernel, "%.*s/%s", slash ? (int)(slash - self) : 1, slash ? self : ".",
                 extension.guest);
    }
    return access(p->kernel, R_OK) ? fail(error, "--guest %s: %s", p->kernel, strerror(errno)) : 0;
}

static int make_directory(struct program *p, char error[FAIL_SIZE])
{
    const char *parent = p->options.work_dir ? p->options.work_dir : getenv("TMPDIR");

    if (!parent || !*parent)
        parent = "/tmp";
    if (strlen(parent) > 60)
        return fail(error, "--work-dir %s: at most 60 characters, sockets have short names", parent);
    snprintf(p->directory, sizeof p->directory, "%s/evacuate-XXXXXX", parent);
    if (mkdtemp(p->directory))
        return 0;
    fail(error, "--work-dir %s: %s", parent, strerror(errno));
    p->directory[0] = 0;
    return -1;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
    (void)s, (void)kind, (void)walk;
    return remove(path);
}

static void remove_directory(struct program *p)
{
    if (p->options.state) {
        state_remove(&p->state);
        return;
    }
    if (!p->directory[0])
        return;
    if (p->options.keep)
        fprintf(p->out, "Disks and messages are in %s\n", p->directory);
    else if (nftw(p->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT))
        fprintf(p->out, "%s: could not be removed: %s\n", p->directory, strerror(errno));
}

/*
 * Back to a run that was killed: its options hold, and what is said now about reports.
 */
static int take_up(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE])
{
    struct options now = p->options, then;
    int n = p->state.argc;
    char **both = calloc((size_t)(n + argc) + 1, sizeof *both);

    if (!both)
        return fail(error, "out of memory");
    memcpy(both, p->state.argv, (size_t)n * sizeof *both);
    memcpy(both + n, argv + 1, (size_t)(argc - 1) * sizeof *both);
    if (options_read(&then, n, both, error) != OPTIONS_RUN ||
        options_read(&p->options, n + argc - 1, both, error) != OPTIONS_RUN) {
        free(both);
        return -1;
    }
    free(both);
    if (!options_same_run(&then, &p->options))
        return fail(error,
                    "--state %s: it holds %s run with other options; --state alone %s, --end %s %s it", now.state,
                    p->finished ? "a finished" : "an unfinished", p->finished ? "tells of it" : "finishes it", now.state,
                    p->finished ? "removes" : "ends");
    if (p->finished && now.svg && (!then.svg || strcmp(now.svg, then.svg)))
        return fail(error, "--state %s: this run is over, another --svg comes too late; --end %s removes it", now.state,
                    now.state);
    return extension_resume(&then, &now, &p->options, &p->state, p->finished, error);
}

static int open_state(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE])
{
    int rc = state_open(&p->state, p->options.state, error);

    p->resuming = rc == STATE_UNFINISHED;
    p->finished = rc == STATE_FINISHED;
    if (rc < 0 || state_keep_arguments(&p->state, argc, argv, error))
        return -1;
    snprintf(p->directory, sizeof p->directory, "%s", p->state.directory);
    return rc == STATE_NEW ? 0 : take_up(p, argc, argv, error);
}

/* Everything that may be missing or refused, before anything begins. */
static int check(const struct program *p, char error[FAIL_SIZE])
{
    const struct options *o = &p->options;
    bool overlays = !o->policy_given || o->policy != POLICY_MIRROR;

    return command_check_output("svg", o->svg, error) || command_check_output("json", o->json, error) ||
                   vm_check_path(p->directory, error) || vm_check_path(p->kernel, error) ||
                   vm_check_programs(o->qemu, overlays, error)
               ? -1
               : 0;
}

static int prepare(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE])
{
    p->signals = catch_signals();
    if (p->signals < 0)
        return fail(error, "signalfd: %s", strerror(errno));
    if (p->options.state ? open_state(p, argc, argv, error) : make_directory(p, error))
        return -1;
    if (p->finished)
        return 0;
    if (find_guest(p, error) || check(p, error) || (!p->resuming && volume_private_mounts(error)) ||
        extension_open(&p->options, error))
        return -1;
    return 0;
}

static int resume(struct program *p)
{
    char directory[256];

    p->picture = picture_new(p->out);
    if (!p->picture)
        return fail(p->run.error, "out of memory");
    snprintf(directory, sizeof directory, "%s/run", p->directory);
    if (run_resume(&p->run, &p->options, directory, p->kernel, p->picture, p->signals, &p->state))
        return -1;
    run_loop(&p->run);
    run_check(&p->run);
    picture_draw(p->picture, p->run.record, NULL, true);
    run_end(&p->run);
    return 0;
}

/* Ω is another then than the same options give elsewhere. */
static void tell_volume(const struct run *run)
{
    char size[HUMAN_SIZE], line[160];

    if (run->volume.kind != VOLUME_TMPFS)
        return;
    snprintf(line, sizeof line, "the buffer volume is a tmpfs of %s: an ext4 on a loop device cannot be made here",
             human_bytes(run->volume.size_bytes, size));
    picture_say(run->picture, line);
}

/* One run from its beginning to its end; false when it could not be done at all. */
static bool do_run(struct program *p, struct run *run, enum policy policy, bool contrast)
{
    char directory[256], line[128], text[40];

    picture_free(p->picture);
    p->picture = picture_new(p->out); /* each run has its own */
    if (!p->picture) {
        fail(run->error, "out of memory");
        return false;
    }
    snprintf(directory, sizeof directory, "%s/%s", p->directory, contrast ? "contrast" : "run");
    snprintf(line, sizeof line, "policy %s: starting %u guests",
             options_policy_text(policy, p->options.fixed_bytes_per_s, text), p->options.vms);
    picture_say(p->picture, line);
    if (run_begin(run, &p->options, policy, contrast, directory, p->kernel, p->picture,
                  p->signals, p->options.state ? &p->state : NULL)) {
        run_end(run);
        return false;
    }
    tell_volume(run);
    run_loop(run);
    run_check(run);
    picture_draw(p->picture, run->record, NULL, true);
    run_end(run);
    return true;
}

static int write_file(struct program *p, const char *path, const char *option, int (*write)(struct program *, FILE *))
{
    FILE *out = path ? fopen(path, "w") : stdout;
    int rc = out ? write(p, out) : -1;

    if (out && path && fclose(out))
        rc = -1;
    if (rc)
        fprintf(stderr, "evacuate: --%s %s: %s\n", option, path ? path : "", strerror(errno));
    return rc;
}

static int write_json(struct program *p, FILE *out)
{
    int rc = p->summary ? json_dumpf(p->summary, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : -1;

    return rc || fputc('\n', out) == EOF || fflush(out) ? -1 : 0;
}

static int write_svg(struct program *p, FILE *out)
{
    return p->contrasted ? svg_contrast(p->run.record, p->contrast.record, out) : svg_timeline(p->run.record, out);
}

/* The contrast may be interrupted too, or find that QEMU migrates none of them, or runs none; then that was all, and what it
 * says is the summary. */
static int do_runs(struct program *p)
{
    const struct options *o = &p->options;

    if (p->resuming)
        return resume(p);
    if (!o->policy_given) {
        p->contrasted = do_run(p, &p->contrast, POLICY_NONE, true);
        if (!p->contrasted)
            return fail(p->run.error, "%s", p->contrast.error);
        if (p->contrast.interrupted || summary_blocked(&p->contrast) || summary_never_began(&p->contrast)) {
            p->run = p->contrast;
            p->contrast = (struct run){ .vms = 0 };
            p->contrasted = false;
            return 0;
        }
    }
    return do_run(p, &p->run, o->policy, false) ? 0 : -1;
}

/* The directory goes; one that can be come back to says from now on that its run is over. */
static int finish(struct program *p, int status, const char *line)
{
    const char *at = p->options.state ? p->state.directory : p->directory;
    char error[FAIL_SIZE];
    int rc = 0;

    if (p->options.keep)
        fprintf(p->out, "Disks and messages are in %s%s\n", at, p->options.state ? "/run" : "");
    if (!p->options.state)
        remove_directory(p);
    else if (state_finish(&p->state, status, line, json_incref(p->summary), p->options.keep, error))
        rc = fprintf(stderr, "evacuate: --state %s\n", error);
    return rc ? EXIT_FAILED : status;
}

static int report(struct program *p)
{
    char error[FAIL_SIZE], line[SUMMARY_LINE_SIZE];
    int rc = 0, status;

    picture_free(p->picture);
    p->picture = NULL;
    p->summary = summary_json(&p->run, p->contrasted ? &p->contrast : NULL);
    if (p->options.svg)
        rc |= write_file(p, p->options.svg, "svg", write_svg);
    if (p->options.json_wanted)
        rc |= write_file(p, p->options.json, "json", write_json);
    if (extension_close(error))
        rc = fprintf(stderr, "evacuate: %s\n", error);
    if (p->contrasted)
        summary_contrast(&p->contrast, p->out);
    summary_links(&p->run, p->out);
    summary_failures(&p->run, p->out);
    summary_warnings(&p->run, p->out);
    summary_throttle(&p->run, p->out);
    extension_tell(&p->run, p->out);
    summary_line(&p->run, line);
    status = summary_never_began(&p->run) ? EXIT_WRONG : summary_good(&p->run) && !rc ? 0 : EXIT_FAILED;
    status = finish(p, status, line);
    fprintf(p->out, "%s\n", line);
    json_decref(p->summary);
    p->summary = NULL;
    return status;
}

/* What is kept of a run that is over. */
static int tell_finished(struct program *p)
{
    const char *line;
    int status;

    if (state_finished(&p->state, &status, &line, &p->summary)) {
        fprintf(stderr, "evacuate: %s/state: not a state of this version\n", p->state.directory);
        status = EXIT_WRONG;
    } else {
        fprintf(p->out, "This run is over; --end %s removes what is left of it.\n%s\n", p->state.directory, line);
        if (p->options.json_wanted && write_file(p, p->options.json, "json", write_json))
            status = EXIT_FAILED;
    }
    p->summary = NULL; /* the state's */
    state_close(&p->state);
    return status;
}

/* After a failure: of a run that others began nothing is removed, and its guests go on within their limits. */
static void leave(struct program *p)
{
    if (p->resuming)
        fprintf(stderr, "evacuate: the guests still run; try again, or end them: evacuate --end %s\n",
                p->state.directory);
    if (p->resuming || p->finished)
        state_close(&p->state);
    else
        remove_directory(p);
}

static int evacuate(struct program *p, int argc, char *const argv[])
{
    char error[FAIL_SIZE];
    int status;

    p->out = p->options.json_wanted && !p->options.json ? stderr : stdout;
    p->state.lock = -1;
    if (prepare(p, argc, argv, error)) {
        fprintf(stderr, "evacuate: %s\n", error);
        leave(p);
        return EXIT_WRONG;
    }
    if (p->finished)
        return tell_finished(p);
    if (do_runs(p)) {
        picture_free(p->picture);
        p->picture = NULL;
        fprintf(stderr, "evacuate: %s\n", p->run.error);
        leave(p);
        status = EXIT_WRONG;
    } else {
        status = report(p);
    }
    run_free(&p->contrast);
    run_free(&p->run);
    extension_close(error);
    return status;
}

int main(int argc, char *argv[])
{
    static struct program program;
    char error[FAIL_SIZE];
    int status;

    switch (options_read(&program.options, argc, argv, error)) {
    case OPTIONS_HELP:
        options_help(stdout, "evacuate");
        return 0;
    case OPTIONS_VERSION:
        command_version("evacuate");
        return 0;
    case OPTIONS_WRONG:
        fprintf(stderr, "evacuate: %s\n", error);
        return EXIT_WRONG;
    default:
        break;
    }
    if (extension_instead(&program.options, &status))
        return status;
    if (program.options.end) {
        if (!state_end(program.options.end, stdout, error))
            return 0;
        fprintf(stderr, "evacuate: --end %s\n", error);
        return EXIT_WRONG;
    }
    return evacuate(&program, argc, argv);
}
