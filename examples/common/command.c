/* SPDX-License-Identifier: MIT */
/* Command lines, by getopt_long: errors name the option, and nothing is printed but what was asked for. */
#include "command.h"
#include "migbuf/version.h"
#include "numbers.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What getopt_long() returned ('?' or ':') as a sentence that names the option. */
static int refused(char error[FAIL_SIZE], int option, char *const argv[])
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

/* The value of an option that may have one. */
static const char *optional(int argc, char *const argv[])
{
    if (!optarg && optind < argc && (argv[optind][0] != '-' || !argv[optind][1]))
        return argv[optind++];
    return optarg;
}

int command_read(const struct command *c, void *program, int argc, char *const argv[], char error[FAIL_SIZE])
{
    int option, at = 0;

    opterr = 0;
    optind = 0; /* anew, even where an earlier line was left in the middle of a word */
    while ((option = getopt_long(argc, argv, ":h", c->options, &at)) != -1) {
        if (option == 'h')
            c->help(stdout);
        if (option == COMMAND_VERSION)
            printf("%s %s\n", c->name, migbuf_version_text());
        if (option == 'h' || option == COMMAND_VERSION)
            return 1;
        if (option == '?' || option == ':')
            return refused(error, option, argv);
        if (c->take(program, option, c->options[at].has_arg == optional_argument ? optional(argc, argv) : optarg, error))
            return -1;
    }
    return 0;
}

int command_no_words(int argc, char *const argv[], char error[FAIL_SIZE])
{
    return optind < argc ? fail(error, "%s: there are options only, see --help", argv[optind]) : 0;
}

int command_number(const char *option, const char *text, uint64_t least, uint64_t most, const char *of, uint64_t *value,
                   char error[FAIL_SIZE])
{
    if (read_count(text, least, most, value))
        return 0;
    return fail(error, "--%s %s: a whole number%s%s from %llu to %llu", option, text, of ? " of " : "", of ? of : "",
                (unsigned long long)least, (unsigned long long)most);
}

int command_number32(const char *option, const char *text, uint32_t least, uint32_t most, const char *of,
                     uint32_t *value, char error[FAIL_SIZE])
{
    uint64_t number;

    if (command_number(option, text, least, most, of, &number, error))
        return -1;
    *value = (uint32_t)number;
    return 0;
}

int command_choice(const char *option, const char *text, const char *const *names, size_t count, const char *more,
                   size_t *index, char error[FAIL_SIZE])
{
    size_t n;

    for (*index = 0; *index < count; ++*index)
        if (!strcmp(names[*index], text))
            return 0;
    fail(error, "--%s %s: it takes ", option, *text ? text : "\"\"");
    for (size_t k = 0; k < count; k++) {
        n = strlen(error);
        snprintf(error + n, FAIL_SIZE - n, "%s%s", names[k], k + 1 == count ? more : ", ");
    }
    return -1;
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
