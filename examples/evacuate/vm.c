/* SPDX-License-Identifier: MIT */
/* Puts QEMU's command line together and keeps the files that go with the process. */
#include "vm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ARGUMENTS 96
#define ARGUMENT_BYTES 16384

/* QEMU's own options split at commas and -blockdev is JSON: rather than two ways of quoting, such paths are refused. */
int vm_check_path(const char *path, char error[FAIL_SIZE])
{
    if (!path || !*path)
        return fail(error, "a path is missing");
    for (const char *c = path; *c; c++)
        if (*c == ',' || *c == '"' || *c == '\\' || (unsigned char)*c < 0x20)
            return fail(error, "%s: a path with a comma, quote, backslash or control character", path);
    return 0;
}

struct command {
    const char *argument[MAX_ARGUMENTS + 1];
    size_t count, used;
    bool full;
    char text[ARGUMENT_BYTES];
};

/* An argument that lives as long as the command; too many or too long sets `full`. */
__attribute__((format(printf, 2, 3))) static void add(struct command *c, const char *format, ...)
{
    size_t left = sizeof c->text - c->used;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(c->text + c->used, left, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= left || c->count == MAX_ARGUMENTS) {
        c->full = true;
        return;
    }
    c->argument[c->count++] = c->text + c->used;
    c->used += (size_t)n + 1;
}

static const char *const disk_node[VM_DISKS_MAX] = { VM_DISK_NODE, "lxd_data" };

const char *vm_disk_node(uint32_t disk)
{
    return disk_node[disk];
}

const char *vm_disk_qdev(enum vm_device device, uint32_t disk)
{
    static const char *const blk[VM_DISKS_MAX] = { "dev-lxd_root/virtio-backend", "dev-lxd_data/virtio-backend" };
    static const char *const other[VM_DISKS_MAX] = { "dev-lxd_root", "dev-lxd_data" };

    return device == VM_VIRTIO_BLK ? blk[disk] : other[disk];
}

/* Programs */

#define PROGRAM "qemu-system-x86_64"
#define VERSION_MS 60000 /* to say its version, on a busy machine */

void vm_image_tool(const char *program, char path[VM_PROGRAM_SIZE])
{
    const char *slash = program ? strrchr(program, '/') : NULL;

    if (slash)
        snprintf(path, VM_PROGRAM_SIZE, "%.*s/qemu-img", (int)(slash - program), program);
    if (!slash || access(path, X_OK))
        snprintf(path, VM_PROGRAM_SIZE, "qemu-img");
}

int vm_check_programs(const char *program, bool image_tool, char error[FAIL_SIZE])
{
    char tool[VM_PROGRAM_SIZE];
    const char *const qemu[] = { program ? program : PROGRAM, "--version", NULL };
    const char *const img[] = { tool, "--version", NULL };

    vm_image_tool(program, tool);
    if (process_run(qemu, VERSION_MS, error))
        return -1;
    return image_tool ? process_run(img, VERSION_MS, error) : 0;
}

/* The command line */

static void put_disk(struct command *c, const struct vm_config *config, uint32_t k, const char *image)
{
    const char *node = disk_node[k], *errors = config->werror ? ",werror=" : "", *werror = config->werror;

    add(c, "-blockdev");
    add(c,
        "{\"node-name\":\"%s\",\"driver\":\"%s\",\"discard\":\"unmap\","
        "\"file\":{\"driver\":\"file\",\"filename\":\"%s\",\"locking\":\"off\"}}",
        node, config->format ? config->format : "raw", image);
    add(c, "-device");
    if (config->device == VM_VIRTIO_BLK)
        add(c, "virtio-blk-pci,id=dev-%s,drive=%s,disable-modern=on%s%s%s", node, node,
            config->no_merging ? ",request-merging=off" : "", errors, werror ? werror : "");
    else if (config->device == VM_VIRTIO_SCSI)
        add(c, "scsi-hd,id=dev-%s,drive=%s,bus=qemu_scsi.0,channel=0,scsi-id=0,lun=%u%s%s", node, node, k + 1, errors,
            werror ? werror : "");
    else
        add(c, "nvme,id=dev-%s,drive=%s,serial=%s", node, node, node);
}

static void put_command(struct command *c, const struct vm *vm, const struct vm_config *config, uint32_t ram_mib)
{
    add(c, "%s", config->program ? config->program : PROGRAM);
    add(c, "-accel"), add(c, config->kvm ? "kvm" : "tcg");
    add(c, "-M"), add(c, "q35,usb=off,memory-backend=ram");
    add(c, "-object"), add(c, "memory-backend-file,id=ram,size=%uM,mem-path=%s,share=on", ram_mib, vm->memory);
    add(c, "-m"), add(c, "%uM", ram_mib);
    add(c, "-nodefaults"), add(c, "-no-user-config"), add(c, "-no-reboot");
    add(c, "-display"), add(c, "none");
    add(c, "-qmp"), add(c, "unix:%s,server=on,wait=off", vm->qmp);
    if (config->second_monitor)
        add(c, "-qmp"), add(c, "unix:%s2,server=on,wait=off", vm->qmp);
    if (config->device == VM_VIRTIO_SCSI)
        add(c, "-device"), add(c, "virtio-scsi-pci,id=qemu_scsi,disable-modern=on,virtqueue_size=256");
    put_disk(c, config, 0, config->image);
    if (config->second_image)
        put_disk(c, config, 1, config->second_image);
    if (config->kernel)
        add(c, "-kernel"), add(c, "%s", config->kernel);
    if (config->kernel && config->append)
        add(c, "-append"), add(c, "%s", config->append);
    if (config->incoming)
        add(c, "-incoming"), add(c, "defer");
    for (const char *const *more = config->extra; more && *more; more++)
        add(c, "%s", *more);
}

static int set_paths(struct vm *vm, const char *directory, char error[FAIL_SIZE])
{
    int n = snprintf(vm->qmp, sizeof vm->qmp, "%s/qmp", directory);

    if (n < 0 || (size_t)n >= sizeof vm->qmp)
        return fail(error, "%s: too long for a unix socket", directory);
    snprintf(vm->log, sizeof vm->log, "%s/log", directory);
    snprintf(vm->memory, sizeof vm->memory, "%s/memory", directory);
    snprintf(vm->life, sizeof vm->life, "%s/life", directory);
    return 0;
}

/* Always new files: what an earlier VM of this name left must not be taken for ours. */
static int open_files(struct vm *vm, const char *directory, uint32_t ram_mib, char error[FAIL_SIZE])
{
    if (mkdir(directory, 0700) && errno != EEXIST)
        return fail(error, "mkdir %s: %s", directory, strerror(errno));
    unlink(vm->qmp), unlink(vm->memory), unlink(vm->log);
    vm->log_fd = open(vm->log, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (vm->log_fd < 0)
        return fail(error, "%s: %s", vm->log, strerror(errno));
    vm->memory_fd = open(vm->memory, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (vm->memory_fd < 0 || ftruncate(vm->memory_fd, (off_t)ram_mib << 20))
        return fail(error, "%s: %s", vm->memory, strerror(errno));
    return 0;
}

static int start(struct vm *vm, const struct vm_config *config, char error[FAIL_SIZE])
{
    uint32_t ram_mib = config->ram_mib ? config->ram_mib : 16;
    struct command *command;
    int result;

    if (vm_check_path(config->directory, error) || vm_check_path(config->image, error) ||
        (config->second_image && vm_check_path(config->second_image, error)) || set_paths(vm, config->directory, error) ||
        open_files(vm, config->directory, ram_mib, error))
        return -1;
    command = calloc(1, sizeof *command);
    if (!command)
        return fail(error, "out of memory");
    put_command(command, vm, config, ram_mib);
    if (command->full)
        result = fail(error, "the command line for %s is too long", config->directory);
    else if (config->outlives)
        result = process_start_outliving(&vm->process, command->argument, vm->log_fd, vm->life, error);
    else
        result = process_start(&vm->process, command->argument, vm->log_fd, error);
    free(command);
    return result;
}

int vm_start(struct vm *vm, const struct vm_config *config, char error[FAIL_SIZE])
{
    *vm = (struct vm){ .process = { .pidfd = -1 }, .log_fd = -1, .memory_fd = -1 };
    if (!start(vm, config, error))
        return 0;
    vm_release(vm);
    return -1;
}

int vm_adopt(struct vm *vm, const char *directory, char error[FAIL_SIZE])
{
    int rc;

    *vm = (struct vm){ .process = { .pidfd = -1 }, .log_fd = -1, .memory_fd = -1 };
    if (set_paths(vm, directory, error))
        return -1;
    rc = process_adopt(&vm->process, vm->life, error);
    if (rc != 1)
        return rc;
    vm->log_fd = open(vm->log, O_RDWR | O_APPEND | O_CLOEXEC);
    vm->memory_fd = open(vm->memory, O_RDWR | O_CLOEXEC);
    if (vm->log_fd >= 0 && vm->memory_fd >= 0)
        return 1;
    return fail(error, "%s: its log or its memory: %s", directory, strerror(errno));
}

bool vm_runs(struct vm *vm, char *error)
{
    char how[64], tail[512];

    if (process_runs(&vm->process))
        return true;
    if (error && vm->log_fd >= 0) {
        process_tail(vm->log_fd, tail, sizeof tail);
        fail(error, "QEMU %s%s%s", process_describe(&vm->process, how), *tail ? ": " : "", tail);
    }
    return false;
}

void vm_end_begin(struct vm *vm, uint64_t now, uint32_t grace_ms)
{
    process_end_begin(&vm->process, now, grace_ms);
}

bool vm_end_step(struct vm *vm, uint64_t now)
{
    return process_step(&vm->process, now);
}

void vm_end(struct vm *vm, uint32_t grace_ms)
{
    process_end(&vm->process, grace_ms);
    vm_release(vm);
}

void vm_release(struct vm *vm)
{
    process_end(&vm->process, 0);
    if (vm->log_fd >= 0)
        close(vm->log_fd);
    if (vm->memory_fd >= 0) {
        close(vm->memory_fd);
        unlink(vm->memory);
        unlink(vm->qmp);
    }
    vm->log_fd = vm->memory_fd = -1;
}

uint64_t vm_cpu_ms(const struct vm *vm)
{
    unsigned long long user = 0, system = 0;
    char path[64], line[1024], *rest;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", vm->process.pid);
    fd = vm->process.pid ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n <= 0)
        return 0;
    line[n] = 0;
    rest = strrchr(line, ')'); /* the name before it may hold anything */
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        return 0;
    return (user + system) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK);
}
