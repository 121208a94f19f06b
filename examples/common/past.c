/* SPDX-License-Identifier: MIT */
/* Lines of one VM out of a file of many, and one more into it. See past.h. */
#include "past.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MOST (32 << 20)
#define HELD_MS 5000 /* how long another program may hold it */

void past_name(const char *project, const char *vm, char name[300])
{
    bool is_default = !*project || !strcmp(project, "default");

    snprintf(name, 300, "%s%s%s", is_default ? "" : project, is_default ? "" : "/", vm);
}

void past_id(const char *project, const char *vm, char id[PAST_ID])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    size_t length = PAST_ID - 1 - 17;
    char name[300];

    past_name(project, vm, name);
    if (strlen(name) < PAST_ID) {
        memcpy(id, name, strlen(name) + 1);
        return;
    }
    for (const char *at = name; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    while (((unsigned char)name[length] & 0xc0) == 0x80) /* not within a character */
        length--;
    snprintf(id, PAST_ID, "%.*s~%016llx", (int)length, name, (unsigned long long)hash);
}

/* Reading */

static int wrong(const struct past *p, char error[FAIL_SIZE])
{
    return fail(error, "--history %s: %s", p->path, strerror(errno));
}

static int read_text(struct past *p, int fd, size_t size, char error[FAIL_SIZE])
{
    ssize_t n = 1;

    p->text = malloc(size + 1);
    if (!p->text)
        return fail(error, "out of memory");
    while (p->length < size && (n = read(fd, p->text + p->length, size - p->length)) > 0)
        p->length += (size_t)n;
    return n < 0 ? wrong(p, error) : 0;
}

/* The whole file, and how it is to stay. One that is not there is empty, and will be its owner's alone. */
static int read_file(struct past *p, struct stat *s, char error[FAIL_SIZE])
{
    int fd = open(p->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc;

    *s = (struct stat){ .st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid() };
    if (fd < 0)
        return errno == ENOENT ? 0 : wrong(p, error);
    if (fstat(fd, s))
        rc = wrong(p, error);
    else if (!S_ISREG(s->st_mode))
        rc = fail(error, "--history %s: not a regular file", p->path);
    else if (s->st_size > FILE_MOST)
        rc = fail(error, "--history %s: more than 32 MiB", p->path);
    else
        rc = read_text(p, fd, (size_t)s->st_size, error);
    close(fd);
    return rc;
}

/* Where a link leads; what is not there yet has its own name. A link that leads nowhere is an error: it would be replaced. */
static int begin(struct past *p, const char *path, char error[FAIL_SIZE])
{
    struct stat s;
    int e;

    *p = (struct past){ .fresh = -1 };
    if (realpath(path, p->path))
        return 0;
    e = errno;
    if (e != ENOENT || !lstat(path, &s) || strlen(path) >= sizeof p->path)
        return fail(error, "--history %s: %s", path, strerror(e));
    strcpy(p->path, path);
    return 0;
}

int past_read(struct past *p, const char *path, char error[FAIL_SIZE])
{
    struct stat s;

    if (begin(p, path, error))
        return -1;
    if (!read_file(p, &s, error))
        return 0;
    past_free(p);
    return -1;
}

/* Where the line ends that begins at `at`, its newline included. */
static size_t line_end(const char *text, size_t length, size_t at)
{
    const char *newline = memchr(text + at, '\n', length - at);

    return newline ? (size_t)(newline - text) + 1 : length;
}

static bool is_of(const char *line, size_t length, const char *id)
{
    struct migbuf_attempt a;

    return migbuf_history_read(line, length, 0, &a) == 1 && !strcmp(a.id, id);
}

/* Its own lines into `own`, all others into `others` (NULL: nowhere). */
static void sort_lines(const struct past *p, const char *id, char *own, size_t *own_length, char *others, size_t *others_length)
{
    *own_length = 0;
    for (size_t at = 0, end; at < p->length; at = end) {
        end = line_end(p->text, p->length, at);
        if (is_of(p->text + at, end - at, id)) {
            memcpy(own + *own_length, p->text + at, end - at);
            *own_length += end - at;
        } else if (others) {
            memcpy(others + *others_length, p->text + at, end - at);
            *others_length += end - at;
            if (p->text[end - 1] != '\n') /* one that was cut may not swallow the next */
                others[(*others_length)++] = '\n';
        }
    }
}

char *past_own(const struct past *p, const char *id, size_t *length)
{
    char *own = malloc(p->length + 1);

    if (!own)
        return NULL;
    sort_lines(p, id, own, length, NULL, NULL);
    own[*length] = 0;
    return own;
}

int past_write_rate(const char *path, const char *id, double *bytes_per_s, char error[FAIL_SIZE])
{
    struct migbuf_prior prior = { .size = sizeof prior };
    struct migbuf_attempt a;
    bool measured = false;
    struct past p;
    size_t length;
    char *lines;

    if (past_read(&p, path, error))
        return -1;
    lines = past_own(&p, id, &length);
    past_free(&p);
    if (!lines)
        return fail(error, "out of memory");
    for (size_t k = 0; migbuf_history_read(lines, length, k, &a) == 1; k++)
        measured |= a.write_bytes_per_s != MIGBUF_ATTEMPT_UNKNOWN;
    measured = measured && migbuf_history_prior(lines, length, (uint64_t)time(NULL), NULL, &prior) >= 0;
    free(lines);
    if (measured)
        *bytes_per_s = prior.write_bytes_per_s;
    return measured;
}

/* Changing */

static int name_fresh(const struct past *p, char name[PATH_MAX])
{
    if (strlen(p->path) + sizeof ".new" > PATH_MAX)
        return errno = ENAMETOOLONG, -1;
    strcpy(stpcpy(name, p->path), ".new");
    return 0;
}

/* Is it still what the name leads to? Another program may have put it in the file's place, or taken it away. */
static bool has_name(int fd, const char *name)
{
    struct stat ours, there;

    return !fstat(fd, &ours) && !stat(name, &there) && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* The new file is the lock: whoever has it reads the old one after the last change and before the next. */
static int open_fresh(struct past *p)
{
    const struct timespec moment = { .tv_nsec = 10000000 };
    uint64_t until_ns = now_ns() + HELD_MS * UINT64_C(1000000);
    char name[PATH_MAX];
    int fd, rc;

    if (name_fresh(p, name))
        return -1;
    for (;;) {
        fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return -1;
        while ((rc = flock(fd, LOCK_EX | LOCK_NB)) && errno == EWOULDBLOCK && now_ns() < until_ns)
            nanosleep(&moment, NULL);
        if (!rc && has_name(fd, name)) {
            p->fresh = fd;
            return 0;
        }
        close(fd);
        if (rc)
            return -1;
    }
}

int past_begin(struct past *p, const char *path, char error[FAIL_SIZE])
{
    struct stat s;
    int rc;

    if (begin(p, path, error))
        return -1;
    rc = open_fresh(p) ? fail(error, "--history %s: %s", p->path, errno == EWOULDBLOCK ? "another program changes it" : strerror(errno)) : 0;
    if (!rc)
        rc = read_file(p, &s, error);
    /* EINVAL: an owner whom a user namespace does not know */
    if (!rc && ((fchown(p->fresh, s.st_uid, s.st_gid) && errno != EPERM && errno != EINVAL) || fchmod(p->fresh, s.st_mode & 07777)))
        rc = wrong(p, error);
    if (rc)
        past_free(p);
    return rc;
}

int past_add(struct past *p, const struct migbuf_attempt *a, char error[FAIL_SIZE])
{
    char *text = malloc(p->length + 1 + MIGBUF_HISTORY_BYTES + 1), *own = malloc(p->length + 1);
    size_t own_length, length = 0, grown;
    int rc = text && own ? 0 : fail(error, "out of memory");

    if (!rc) {
        sort_lines(p, a->id, own, &own_length, text, &length);
        rc = migbuf_history_append(own, own_length, a, text + length, MIGBUF_HISTORY_BYTES + 1, &grown);
        rc = rc < 0 ? fail(error, "--history %s: %s", p->path, migbuf_strerror(rc)) : 0;
        if (!rc && length + grown > FILE_MOST)
            rc = fail(error, "--history %s: it would be more than 32 MiB", p->path);
    }
    free(own);
    if (rc) {
        free(text);
        return -1;
    }
    free(p->text);
    p->text = text;
    p->length = length + grown;
    return 0;
}

static int write_fresh(const struct past *p)
{
    size_t done = 0;
    ssize_t n = 0;

    if (ftruncate(p->fresh, 0)) /* one that a killed program left */
        return -1;
    while (done < p->length && (n = write(p->fresh, p->text + done, p->length - done)) > 0)
        done += (size_t)n;
    return done < p->length || fsync(p->fresh) ? -1 : 0;
}

int past_write(struct past *p, char error[FAIL_SIZE])
{
    char name[PATH_MAX];
    int rc = name_fresh(p, name) || write_fresh(p) || rename(name, p->path) ? wrong(p, error) : 0;

    if (!rc) {
        close(p->fresh);
        p->fresh = -1;
    }
    past_free(p);
    return rc;
}

void past_free(struct past *p)
{
    char name[PATH_MAX];

    if (p->fresh >= 0 && !name_fresh(p, name))
        unlink(name); /* still locked: it is ours */
    if (p->fresh >= 0)
        close(p->fresh);
    p->fresh = -1;
    free(p->text);
    p->text = NULL;
    p->length = 0;
}

int past_append(const char *path, const struct migbuf_attempt *a, char error[FAIL_SIZE])
{
    struct past p;

    if (past_begin(&p, path, error))
        return -1;
    if (!past_add(&p, a, error))
        return past_write(&p, error);
    past_free(&p);
    return -1;
}
