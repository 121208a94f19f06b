/* SPDX-License-Identifier: MIT */
/* The target as a plain program: runs over every file of the directories that are given, and over mutations of them from a
 * printed seed (MIGBUF_TEST_SEED sets it, MIGBUF_TEST_ROUNDS how many for each file). One test in TAP. An input that ends the
 * process is named before it does. */
#include "fuzz.h"
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#define MOST_BYTES 65536

static char running[PATH_MAX + 32]; /* what a crash is told of */
static uint64_t state;

static uint32_t random_below(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void tell(int signal_number)
{
    if (write(STDOUT_FILENO, running, strlen(running)) < 0)
        _exit(1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void run(const char *name, uint64_t round, const uint8_t *bytes, size_t size)
{
    uint8_t *exact = (uint8_t *)exact_copy(bytes, size);

    snprintf(running, sizeof running, "not ok 1 - %s, round %" PRIu64 "\n", name, round);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

/* Replaces, removes or doubles a few bytes. */
static size_t mutate(uint8_t *bytes, size_t size)
{
    for (uint32_t k = random_below(4) + 1; k > 0 && size > 1; k--) {
        size_t at = random_below((uint32_t)size), count = 1 + random_below(4);

        if (count > size - at)
            count = size - at;
        switch (random_below(4)) {
        case 0:
            bytes[at] = (uint8_t)random_below(256);
            break;
        case 1:
            bytes[at] ^= (uint8_t)(1u << random_below(8));
            break;
        case 2:
            memmove(bytes + at, bytes + at + count, size - at - count);
            size -= count;
            break;
        default:
            if (size + count > MOST_BYTES)
                break;
            memmove(bytes + at + count, bytes + at, size - at);
            size += count;
        }
    }
    return size;
}

/* Returns how many inputs it was. */
static uint64_t run_file(const char *path, uint64_t rounds)
{
    static uint8_t original[MOST_BYTES], bytes[MOST_BYTES];
    FILE *file = fopen(path, "rb");
    size_t size;

    if (!file) {
        printf("Bail out! %s cannot be read\n", path);
        exit(1);
    }
    size = fread(original, 1, sizeof original, file);
    fclose(file);
    run(path, 0, original, size);
    for (uint64_t k = 1; k <= rounds; k++) {
        memcpy(bytes, original, size);
        run(path, k, bytes, mutate(bytes, size));
    }
    return 1 + rounds;
}

static int is_file(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    uint64_t inputs = 0, files = 0, seed = from_environment("MIGBUF_TEST_SEED", 1), rounds = from_environment("MIGBUF_TEST_ROUNDS", 20);

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGABRT, tell);
    signal(SIGSEGV, tell);
    signal(SIGFPE, tell);
    state = seed;
    printf("1..1\n# seed %" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
    for (int a = 1; a < argc; a++) {
        struct dirent **entry;
        int n = scandir(argv[a], &entry, is_file, alphasort);

        for (int k = 0; k < n; k++) {
            char path[PATH_MAX];

            snprintf(path, sizeof path, "%s/%s", argv[a], entry[k]->d_name);
            inputs += run_file(path, rounds);
            files++;
            free(entry[k]);
        }
        if (n >= 0)
            free(entry);
    }
    if (!files) {
        printf("not ok 1 - no corpus\n");
        return 1;
    }
    printf("ok 1 - %" PRIu64 " inputs and mutations of them, %" PRIu64 " in all\n", files, inputs);
    return 0;
}
