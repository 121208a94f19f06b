/* SPDX-License-Identifier: MIT */
/*
 * evacuate: several writing VMs leave a host at once, through one small buffer, and nothing is lost. This is the story;
 * who wants to know more reads on in
 *
 *   options.c      what is to run: sizes, policy; loads.c what each guest does meanwhile
 *   prepare.c      what must be there before anything begins; state.c what is kept for a program after this one
 *   loop.c         the run: its hosts are made (vm.c, process.c, volume.c, link.c), all VMs move on together, a tick is due
 *   migration.c    one VM, step by step: steps_there.c, steps_ram.c for its memory, and steps_back.c when it is given up
 *   control.c      each tick: sizes go into the buffer, its decisions to the guests. The part that a host copies
 *   writer.c       the proof: a disk is held against what its guest (guest.c) was told to be safe
 *   report.c       what is said of it: summary.c, svg.c; picture.c while it goes on; attempts.c of all attempts
 */
#include "attempts.h"
#include "extension.h"
#include "program.h"

/* Each run has a picture of its own. */
static int new_picture(struct program *p, char error[FAIL_SIZE])
{
    picture_free(p->picture);
    p->picture = picture_new(p->out);
    return p->picture ? 0 : fail(error, "out of memory");
}

/* The guests are there. They move until each is at one place for good; then every disk is checked for every write. */
static void move_and_check(struct program *p, struct run *run)
{
    run_loop(run);
    run_check(run);
    picture_draw(p->picture, run->record, NULL, true);
    run_end(run);
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

/* One evacuation from its beginning to its end. -1: it could not be done at all. */
static int evacuate_with(struct program *p, struct run *run, enum policy policy, bool contrast)
{
    char directory[256], line[128], text[40];

    if (new_picture(p, run->error))
        return -1;
    snprintf(directory, sizeof directory, "%s/%s", p->directory, contrast ? "contrast" : "run");
    snprintf(line, sizeof line, "policy %s: starting %u guests",
             options_policy_text(policy, p->options.fixed_bytes_per_s, text), p->options.vms);
    picture_say(p->picture, line);
    if (p->options.history && !contrast && attempts_tell(p->options.history, p->options.vms, p->picture, run->error))
        return -1;
    if (run_begin(run, &p->options, policy, contrast, directory, p->kernel, p->picture, p->signals,
                  p->options.state ? &p->state : NULL)) {
        run_end(run);
        return -1;
    }
    tell_volume(run);
    move_and_check(p, run);
    return 0;
}

/* The program that began it was killed; its QEMUs still run. */
static int finish_what_was_begun(struct program *p)
{
    char directory[256];

    if (new_picture(p, p->run.error))
        return -1;
    snprintf(directory, sizeof directory, "%s/run", p->directory);
    if (run_resume(&p->run, &p->options, directory, p->kernel, p->picture, p->signals, &p->state))
        return -1;
    move_and_check(p, &p->run);
    return 0;
}

/* It was interrupted, or QEMU migrates none of the VMs, or runs none: then that was all, and what it says is the summary. */
static bool says_all(const struct run *contrast)
{
    return contrast->interrupted || summary_blocked(contrast) || summary_never_began(contrast);
}

/* The same load without a throttle overflows the buffer: that is what the other run is seen against. */
static int show_contrast(struct program *p)
{
    if (evacuate_with(p, &p->contrast, POLICY_NONE, true))
        return fail(p->run.error, "%s", p->contrast.error);
    p->contrasted = !says_all(&p->contrast);
    if (!p->contrasted) {
        p->run = p->contrast;
        p->contrast = (struct run){ .vms = 0 };
    }
    return 0;
}

static int evacuate_all(struct program *p)
{
    if (p->resuming)
        return finish_what_was_begun(p);
    if (!p->options.policy_given) {
        if (show_contrast(p))
            return -1;
        if (!p->contrasted)
            return 0;
    }
    return evacuate_with(p, &p->run, p->options.policy, false);
}

static int give_up(struct program *p, const char *why)
{
    picture_free(p->picture);
    p->picture = NULL;
    fprintf(stderr, "evacuate: %s\n", why);
    leave(p);
    return EXIT_WRONG;
}

static int evacuate(struct program *p, int argc, char *const argv[])
{
    char error[FAIL_SIZE];
    int status;

    p->out = p->options.json_wanted && !p->options.json ? stderr : stdout;
    p->state.lock = -1;
    if (prepare(p, argc, argv, error))
        return give_up(p, error);
    if (p->finished)
        return tell_finished(p);
    status = evacuate_all(p) ? give_up(p, p->run.error) : report(p);
    run_free(&p->contrast);
    run_free(&p->run);
    extension_close(error);
    return status;
}

/* --end: of a run that was killed, and that nobody wants to finish. */
static int end_run(const char *directory)
{
    char error[FAIL_SIZE];

    if (!state_end(directory, stdout, error))
        return 0;
    fprintf(stderr, "evacuate: --end %s\n", error);
    return EXIT_WRONG;
}

int main(int argc, char *argv[])
{
    static struct program program;
    char error[FAIL_SIZE];
    int status;

    status = options_read(&program.options, argc, argv, error);
    if (status < 0)
        fprintf(stderr, "evacuate: %s\n", error);
    if (status)
        return status < 0 ? EXIT_WRONG : 0;
    if (extension_instead(&program.options, &status))
        return status;
    return program.options.end ? end_run(program.options.end) : evacuate(&program, argc, argv);
}
