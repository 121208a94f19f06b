/* SPDX-License-Identifier: MIT */
/* examples/volume against a real daemon: test_volume lxd | incus VOLUME. The tests build on each other's server. */
#include "lxd_lab.h"
#include <curl/curl.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS PATIENCE_MS
#define KEY_VOLUME "user.migbuf.buffer.volume"
#define KEY_SIZE "user.migbuf.buffer.size"

static const char *program, *said;

/* Runs `volume ARGS`, words apart by blanks; the exit status, and what it said in `said`. */
static int volume(const char *args, const char *input)
{
    static char words[512];
    const char *argv[32];
    char *rest = words;
    size_t n = 0;

    snprintf(words, sizeof words, "%s", args);
    argv[n++] = program;
    argv[n++] = "--timeout";
    argv[n++] = "120";
    while (rest && n < 31)
        argv[n++] = strsep(&rest, " ");
    argv[n] = NULL;
    return lxd_lab_run(argv, input, &said);
}

#define ck_says(args, input, status, word)                                                                             \
    do {                                                                                                               \
        int status_ = volume(args, input);                                                                             \
        ck_assert_msg(status_ == (status) && strstr(said, word), "volume %s: %d, not %d with \"%s\":\n%s", args, status_, \
                      status, word, said);                                                                             \
    } while (0)

static struct migbuf_lxd *open_lxd(void)
{
    struct migbuf_lxd *lxd = NULL;

    ck_assert_int_eq(migbuf_lxd_open(lxd_lab_daemon.socket, NULL, NULL, MS, &lxd, NULL), 0);
    return lxd;
}

static void ck_keys(const char *volume_key, const char *size_key)
{
    struct migbuf_lxd *lxd = open_lxd();
    char value[128];

    ck_assert_int_eq(migbuf_lxd_key(lxd, KEY_VOLUME, MS, value, sizeof value, NULL), 0);
    ck_assert_str_eq(value, volume_key);
    ck_assert_int_eq(migbuf_lxd_key(lxd, KEY_SIZE, MS, value, sizeof value, NULL), 0);
    ck_assert_str_eq(value, size_key);
    migbuf_lxd_free(lxd);
}

static void make_pool(const char *body)
{
    struct migbuf_lxd *lxd = open_lxd();

    ck_assert_msg(!migbuf_lxd_call(lxd, "POST", "/1.0/storage-pools", body, MS, NULL, NULL, NULL), "%s", migbuf_lxd_said(lxd));
    migbuf_lxd_free(lxd);
}

static void fill(const char *pool, size_t mib)
{
    static char block[1 << 20];
    char path[320];
    int fd;

    snprintf(path, sizeof path, "%s/storage-pools/%s/custom/default_migration-cow-buffer/fill", lxd_lab_daemon.directory,
             pool);
    memset(block, 'x', sizeof block);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert(fd >= 0);
    for (size_t k = 0; k < mib; k++)
        ck_assert_int_eq(write(fd, block, sizeof block), sizeof block);
    ck_assert_int_eq(syncfs(fd), 0);
    close(fd);
}

START_TEST(a_life)
{
    json_t *o;

    ck_says("--help", NULL, 0, "Usage: migbuf-volume");
    ck_says("--help", NULL, 0, "the server's project (default)");
    ck_says("init --auto", NULL, 1, "storage create default lvm");
    ck_says("show", NULL, 1, "`migbuf-volume init` makes one");
    ck_says("remove", NULL, 1, "no migration buffer");
    ck_keys("", "");

    /* One command on a server with a default pool; twice. */
    make_pool("{\"name\":\"default\",\"driver\":\"dir\"}");
    ck_says("init --auto", NULL, 0, "size       10 GiB");
    ck_assert_ptr_nonnull(strstr(said, "warning: a volume of a dir pool is limited only where"));
    ck_keys("default/migration-cow-buffer", "10737418240");
    ck_says("init --auto", NULL, 0, "It is there already: default/migration-cow-buffer, 10 GiB.");
    ck_says("init --auto --size 20GiB", NULL, 0, "`migbuf-volume resize 20GiB` makes it 20 GiB");
    ck_says("show", NULL, 0, "when full  unlimited");

    /* A pool that does not count: its files are counted. */
    fill("default", 24);
    ck_says("show", NULL, 0, "in use     24 MiB");
    ck_says("resize 20MiB", NULL, 1, "are in use");
    ck_keys("default/migration-cow-buffer", "10737418240");
    ck_says("remove", NULL, 1, "in use: migrations may be under way");
    fill("default", 0);
    ck_says("resize 20MiB", NULL, 0, "size       20 MiB");
    ck_keys("default/migration-cow-buffer", "20971520");

    /* Its keys are lost: the volume is found, and they come back. */
    {
        struct migbuf_lxd *lxd = open_lxd();

        ck_assert_int_eq(migbuf_lxd_set_key(lxd, KEY_VOLUME, NULL, MS, NULL), 0);
        ck_assert_int_eq(migbuf_lxd_set_key(lxd, KEY_SIZE, NULL, MS, NULL), 0);
        migbuf_lxd_free(lxd);
    }
    ck_says("init --auto", NULL, 0, "It is there already");
    ck_keys("default/migration-cow-buffer", "20971520");
    ck_says("remove", NULL, 0, "Removed default/migration-cow-buffer.");
    ck_keys("", "");
    ck_says("remove", NULL, 1, "no migration buffer");

    /* btrfs, where the size is enforced; questions, with wrong answers first. */
    make_pool("{\"name\":\"b1\",\"driver\":\"btrfs\",\"config\":{\"size\":\"512MiB\"}}");
    ck_says("init", "", 1, "no answer");
    ck_says("init", "nopool\nb1\n", 1, "There is no pool \"nopool\".");
    ck_says("init", "b1\n12\n64MiB\n", 0, "A size of 16 MiB or more");
    ck_assert(strstr(said, "Pool for the migration buffer [default]: ") && strstr(said, "Size [10GiB]: "));
    ck_assert(strstr(said, "limited by a quota") && strstr(said, "when full  EDQUOT"));
    ck_keys("b1/migration-cow-buffer", "67108864");
    fill("b1", 20);
    ck_says("show --json", NULL, 0, "{");
    o = json_loads(said, 0, NULL);
    ck_assert_msg(o != NULL, "%s", said);
    ck_assert_str_eq(json_string_value(json_object_get(o, "pool")), "b1");
    ck_assert_str_eq(json_string_value(json_object_get(o, "when_full")), "EDQUOT");
    ck_assert_int_eq(json_integer_value(json_object_get(o, "size_bytes")), 67108864);
    ck_assert_int_eq(json_integer_value(json_object_get(o, "configured_size_bytes")), 67108864);
    ck_assert(json_integer_value(json_object_get(o, "used_bytes")) >= 20 << 20);
    json_decref(o);
    ck_says("resize 16MiB", NULL, 1, "(16777216): nothing was changed");
    ck_says("resize 2GiB", NULL, 1, "has");
    ck_assert_ptr_nonnull(strstr(said, "free ("));
    ck_says("resize 96MiB", NULL, 0, "size       96 MiB");
    ck_keys("b1/migration-cow-buffer", "100663296");
    fill("b1", 0);
    ck_says("remove --json", NULL, 0, "\"removed\"");

    /* More than there is. */
    ck_says("init --pool b1 --size 1GiB", NULL, 1, "1 GiB are wanted");
    ck_says("init --pool b1 --auto --size 1TiB", NULL, 1, "free");
    ck_says("init --pool nopool --auto", NULL, 1, "no storage pool \"nopool\"");
    ck_keys("", "");
}
END_TEST

START_TEST(wrong_options)
{
    ck_says("", NULL, 2, "no command");
    ck_says("init more", NULL, 2, "too much");
    ck_says("resize", NULL, 2, "needs a size");
    ck_says("resize 10", NULL, 2, "16 MiB or more");
    ck_says("init --size x", NULL, 2, "16 MiB or more");
    ck_says("-h", NULL, 0, "Usage: migbuf-volume");
    ck_says("--version", NULL, 0, "migbuf-volume " MESON_VERSION);
    ck_says("init --pool", NULL, 2, "needs a value");
    ck_says("-a init", NULL, 2, "-a is no option");
    ck_says("--auto=yes init", NULL, 2, "--auto takes no value");
    ck_says("--what init", NULL, 2, "no option");
    ck_says("--timeout 0 show", NULL, 2, "1 to 3600");
    ck_says("--server /nowhere show", NULL, 1, "No such file or directory");
    ck_says("--server ftp://x show", NULL, 1, "https://HOST:PORT");
}
END_TEST

START_TEST(a_daemon_that_is_gone)
{
    lxd_lab_end();
    ck_says("show", NULL, 1, "no server answers there");
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const tests[] = { a_life, wrong_options, a_daemon_that_is_gone, NULL };
    int status;

    if (argc != 3) {
        fprintf(stderr, "usage: test_volume lxd | incus VOLUME\n");
        return 2;
    }
    program = argv[2];
    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = lxd_lab_main("volume", argv[1], tests, WATCHDOG_S);
    curl_global_cleanup();
    return status;
}
