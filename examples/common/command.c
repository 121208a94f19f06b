/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "migbuf/version.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int command_refused(char error[FAIL_SIZE], int option, char *const argv[])
{
    const char *word = argv[optind - 1];

    if (option == ':')
        return fail(error, "%s needs a value", word);
    if (strncmp(word, "--", 2) && optopt > ' ' && optopt < 0x7f) /* one letter of several may be meant */
        return fail(error, "-%c is no option; --help lists them", optopt);
    if (optopt)
        return fail(error, "%.*s takes no value", (int)strcspn(word, "="), word);
    return fail(error, "%s is no option; --help lists them", word);
}

const char *command_optional(int argc, char *const argv[])
{
    if (!optarg && optind < argc && (argv[optind][0] != '-' || !argv[optind][1]))
        return argv[optind++];
    return optarg;
}

void command_version(const char *program)
{
    printf("%s %s\n", program, migbuf_version_text());
}

/* A file that is not there is made and removed again: only that tells. */
static int try_to_make(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno == EEXIST ? 0 : -1; /* a link to what is not there yet */
    close(fd);
    return unlink(path);
}

int command_check_output(const char *option, const char *path, char error[FAIL_SIZE])
{
    struct stat s;
    int rc;

    if (!path || !strcmp(path, "-"))
        return 0;
    if (stat(path, &s))
        rc = errno == ENOENT ? try_to_make(path) : -1;
    else if (S_ISDIR(s.st_mode))
        rc = (errno = EISDIR, -1);
    else /* never opened: a pipe's reader would take that for the end */
        rc = access(path, W_OK);
    return rc ? fail(error, "--%s %s: %s", option, path, strerror(errno)) : 0;
}
