/* SPDX-License-Identifier: MIT */
/* What people write: sizes, counts, names and whole command lines of the programs. A number that is read is the one that was
 * written, and is within its bounds; what is refused is told in one sentence, and changes nothing.
 *
 * An input is eight bytes for bounds and steps, and words with the byte 0 between them. */
#include "fuzz.h"
#include "command.h"
#include "numbers.h"
#include <ctype.h>
#include <math.h>

#define MOST_WORDS 12

static int is_digits(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text);
}

static void read_one(const char *text, uint64_t least, uint64_t most, uint64_t step)
{
    static const char *const names[] = { "paper", "planner", "literal" };
    char error[FAIL_SIZE], human[HUMAN_SIZE];
    uint64_t value = 0x5a5a, number;
    uint32_t small = 0x5a;
    size_t index;
    int is_read = read_size(text, step, least, most, &value);

    fuzz_check(is_read ? value >= least && value <= most : value == 0x5a5a, "%s: %llu of %llu … %llu", text,
               (unsigned long long)value, (unsigned long long)least, (unsigned long long)most);
    if (is_digits(text) && strlen(text) < 20) { /* as it stands */
        number = strtoull(text, NULL, 10);
        fuzz_check(is_read == (number >= least && number <= most) && (!is_read || value == number), "%s is read as %llu", text,
                   (unsigned long long)value);
    }
    value = 0x5a5a;
    is_read = read_count(text, least, most, &value);
    fuzz_check(is_read ? value >= least && value <= most : value == 0x5a5a, "%s: %llu", text, (unsigned long long)value);
    if (is_digits(text) && strlen(text) < 20) {
        number = strtoull(text, NULL, 10);
        fuzz_check(is_read == (number >= least && number <= most) && (!is_read || value == number), "%s is counted as %llu", text,
                   (unsigned long long)value);
    }
    error[0] = 0;
    fuzz_check((command_number("o", text, least, most, "things", &value, error) == 0) == (is_read != 0), "%s", text);
    fuzz_check(is_read || (*error && strlen(error) < FAIL_SIZE), "no sentence");
    if (command_number32("o", text, (uint32_t)least, (uint32_t)most, NULL, &small, error) == 0)
        fuzz_check(small >= (uint32_t)least && small <= (uint32_t)most, "%u", small);
    if (command_choice("o", text, names, 3, ", or none", &index, error) == 0)
        fuzz_check(!strcmp(text, names[index]), "%s", text);
    else
        fuzz_check(*error && strlen(error) < FAIL_SIZE, "no sentence");
    number = is_read ? value : least;
    fuzz_check(strlen(human_bytes(number, human)) < HUMAN_SIZE - 1, "%s", human);
    fuzz_check(strlen(human_rate(number, human)) < HUMAN_SIZE - 1, "%s", human);
    fuzz_check(strlen(human_binary(number, human)) < HUMAN_SIZE - 1, "%s", human);
    fuzz_check(strlen(human_time((int64_t)number, human)) < HUMAN_SIZE - 1, "%s", human);
}

/* A program of every kind of option. */
static int taken;

static int take(void *program, int option, const char *value, char error[FAIL_SIZE])
{
    uint64_t number;

    fuzz_check(program == (void *)&taken, "another program's");
    taken++;
    if (option == 'n')
        return command_number("number", value, 1, 100, "things", &number, error);
    if (option == 'q')
        fuzz_check(!value, "a value that it does not take");
    if (option == 's')
        fuzz_check(value != NULL, "no value");
    return 0;
}

static void help(FILE *out)
{
    (void)out;
}

static void read_line(char *const *word, int words)
{
    static const struct option options[] = { { "number", required_argument, NULL, 'n' }, { "quiet", no_argument, NULL, 'q' },
                                             { "nudge", no_argument, NULL, 'q' }, { "size", required_argument, NULL, 's' },
                                             { "json", optional_argument, NULL, 'j' }, COMMAND_OPTIONS };
    struct command c = { .name = "program", .options = options, .help = help, .take = take };
    char error[FAIL_SIZE] = "", *argv[MOST_WORDS + 2] = { "program" };
    int rc;

    for (int k = 0; k < words; k++) {
        if (!strncmp(word[k], "--v", 3)) /* which would be printed */
            return;
        argv[k + 1] = word[k];
    }
    taken = 0;
    rc = command_read(&c, &taken, words + 1, argv, error);
    fuzz_check(rc == 0 || rc == 1 || (rc == -1 && *error && strlen(error) < FAIL_SIZE), "%d %s", rc, error);
    fuzz_check(optind >= 1 && optind <= words + 1 && taken <= words + (int)strlen("qqqq") * 64, "%d of %d words", optind, words);
    if (rc == 0)
        fuzz_check((command_no_words(words + 1, argv, error) == 0) == (optind == words + 1), "%d of %d words", optind, words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = { data, data + size };
    uint64_t least = take_number(&c), most = take_number(&c), step = take_byte(&c) & 1 ? 1000 : 1024;
    char *word[MOST_WORDS] = { NULL };
    int words = 0;

    if (least > most) {
        uint64_t other = least;

        least = most;
        most = other;
    }
    while (c.at < c.end && words < MOST_WORDS) {
        const uint8_t *end = memchr(c.at, 0, (size_t)(c.end - c.at));
        size_t length = (size_t)((end ? end : c.end) - c.at);

        if (length > 200)
            length = 200;
        word[words] = malloc(length + 1);
        if (!word[words])
            abort();
        memcpy(word[words], c.at, length);
        word[words++][length] = 0;
        c.at += length + (end != NULL);
    }
    for (int k = 0; k < words; k++)
        read_one(word[k], least, most, step);
    read_line(word, words);
    while (words)
        free(word[--words]);
    return 0;
}
