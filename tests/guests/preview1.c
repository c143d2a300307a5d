// Calls preview 1's functions, past the C library, and prints what each answers: a line a case.
//
//     preview1 [ARGUMENT...]         those that concern no files
//     preview1 writes DIRECTORY...   files, in each DIRECTORY, which is a mount that may be written to
//     preview1 reads DIRECTORY...    the same where nothing may be: each holds `file`, of the text "text", `link`, which leads there, and `sub`
//     preview1 exits CODE
//
// With EXTENDED it imports carob:pod/lifecycle, and so has descriptors of carob's own, which are to answer alike.

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_raise")))
int proc_raise(int signal);

#ifdef EXTENDED
__attribute__((import_module("carob:pod/lifecycle@0.1.0"), import_name("remaining-grace")))
long long remaining_grace(void);
#else
static long long remaining_grace(void) {
    return -1;
}
#endif

static const char *const ERRNOS[] = {
    "success", "2big", "acces", "addrinuse", "addrnotavail", "afnosupport", "again", "already", "badf", "badmsg", "busy",
    "canceled", "child", "connaborted", "connrefused", "connreset", "deadlk", "destaddrreq", "dom", "dquot", "exist",
    "fault", "fbig", "hostunreach", "idrm", "ilseq", "inprogress", "intr", "inval", "io", "isconn", "isdir", "loop",
    "mfile", "mlink", "msgsize", "multihop", "nametoolong", "netdown", "netreset", "netunreach", "nfile", "nobufs",
    "nodev", "noent", "noexec", "nolck", "nolink", "nomem", "nomsg", "noprotoopt", "nospc", "nosys", "notconn", "notdir",
    "notempty", "notrecoverable", "notsock", "notsup", "notty", "nxio", "overflow", "ownerdead", "perm", "pipe", "proto",
    "protonosupport", "prototype", "range", "rofs", "spipe", "srch", "stale", "timedout", "txtbsy", "xdev", "notcapable",
};

static const char *const TYPES[] = {
    "unknown", "block device", "character device", "directory", "regular file", "datagram socket", "stream socket", "symbolic link",
};

static void told(const char *what, __wasi_errno_t error) {
    printf("%s: %s\n", what, error < sizeof ERRNOS / sizeof *ERRNOS ? ERRNOS[error] : "no errno");
}

static void gave(const char *what, __wasi_errno_t error, unsigned long long value) {
    if (error)
        told(what, error);
    else
        printf("%s: %llu\n", what, value);
}

static void holds(const char *what, bool is_so) {
    printf("%s: %s\n", what, is_so ? "yes" : "NO");
}

#define LENGTH(text) (sizeof(text) - 1)
#define OF(text) (&(__wasi_ciovec_t){(const uint8_t *)(text), LENGTH(text)}), 1
#define INTO(buffer) (&(__wasi_iovec_t){(uint8_t *)(buffer), sizeof(buffer)}), 1

static const __wasi_rights_t READ = __WASI_RIGHTS_FD_READ, WRITE = __WASI_RIGHTS_FD_WRITE;
static const __wasi_lookupflags_t FOLLOW = __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW;

// Opens, and says what comes of it; -1 where that is nothing.
static __wasi_fd_t opened(const char *what, __wasi_fd_t directory, const char *path, __wasi_lookupflags_t lookup,
                          __wasi_oflags_t how, __wasi_rights_t rights, __wasi_fdflags_t flags) {
    __wasi_fd_t fd = -1;
    told(what, __wasi_path_open(directory, lookup, path, how, rights, rights, flags, &fd));
    return fd;
}

static void refused(const char *what, __wasi_fd_t directory, const char *path, __wasi_lookupflags_t lookup,
                    __wasi_oflags_t how, __wasi_rights_t rights, __wasi_fdflags_t flags) {
    __wasi_fd_t fd = opened(what, directory, path, lookup, how, rights, flags);
    if (fd != -1)
        told("  which it should not", __wasi_fd_close(fd));
}

static void wrote(const char *what, __wasi_fd_t fd, const char *text) {
    __wasi_size_t size = 0;
    __wasi_ciovec_t from = {(const uint8_t *)text, strlen(text)};
    gave(what, __wasi_fd_write(fd, &from, 1, &size), size);
}

static void sought(const char *what, __wasi_fd_t fd, __wasi_filedelta_t offset, __wasi_whence_t whence) {
    __wasi_filesize_t at = 0;
    gave(what, __wasi_fd_seek(fd, offset, whence, &at), at);
}

// What lies from here on, with a point for each zero.
static void holds_text(const char *what, __wasi_fd_t fd, __wasi_filesize_t from) {
    char text[64] = {0};
    __wasi_size_t size = 0;
    __wasi_errno_t error = __wasi_fd_pread(fd, INTO(text), from, &size);
    if (error)
        return told(what, error);
    for (__wasi_size_t i = 0; i < size; i++)
        text[i] = text[i] ? text[i] : '.';
    printf("%s: \"%.*s\"\n", what, (int)size, text);
}

static void file_is(const char *what, __wasi_errno_t error, const __wasi_filestat_t *found) {
    if (error)
        return told(what, error);
    printf("%s: %s", what, TYPES[found->filetype]);
    // How many names and bytes a directory has is the file system's own affair.
    if (found->filetype != __WASI_FILETYPE_DIRECTORY)
        printf(", %llu names, %llu bytes", found->nlink, found->size);
    printf("\n");
}

static void fd_is(const char *what, __wasi_fd_t fd) {
    __wasi_fdstat_t stat;
    __wasi_errno_t error = __wasi_fd_fdstat_get(fd, &stat);
    if (error)
        return told(what, error);
    printf("%s: %s%s%s%s%s\n", what, TYPES[stat.fs_filetype], stat.fs_rights_base & READ ? ", reads" : "",
           stat.fs_rights_base & WRITE ? ", writes" : "", stat.fs_flags & __WASI_FDFLAGS_APPEND ? ", appends" : "",
           stat.fs_flags & __WASI_FDFLAGS_NONBLOCK ? ", does not wait" : "");
}

// The directory that was preopened at a path.
static __wasi_fd_t preopened(const char *path) {
    for (__wasi_fd_t fd = 3;; fd++) {
        __wasi_prestat_t stat;
        char name[64] = {0};
        if (__wasi_fd_prestat_get(fd, &stat))
            return -1;
        if (stat.u.dir.pr_name_len == strlen(path) && !__wasi_fd_prestat_dir_name(fd, (uint8_t *)name, strlen(path)) &&
            strcmp(name, path) == 0)
            return fd;
    }
}

static void files(__wasi_fd_t dir) {
    const __wasi_oflags_t create = __WASI_OFLAGS_CREAT, exclusive = __WASI_OFLAGS_EXCL;
    refused("path_open of nothing", dir, "nothing", FOLLOW, 0, READ, 0);
    __wasi_fd_t fd = opened("path_open creat excl", dir, "file", FOLLOW, create | exclusive, READ | WRITE, 0);
    refused("path_open creat excl again", dir, "file", FOLLOW, create | exclusive, READ | WRITE, 0);
    refused("path_open directory of a file", dir, "file", FOLLOW, __WASI_OFLAGS_DIRECTORY, READ, 0);
    refused("path_open directory creat", dir, "new", FOLLOW, __WASI_OFLAGS_DIRECTORY | create, READ, 0);
    refused("path_open sync", dir, "file", FOLLOW, 0, READ, __WASI_FDFLAGS_SYNC);
    refused("path_open dsync", dir, "file", FOLLOW, 0, READ, __WASI_FDFLAGS_DSYNC);
    refused("path_open rsync", dir, "file", FOLLOW, 0, READ, __WASI_FDFLAGS_RSYNC);
    refused("path_open beneath a file", dir, "file/x", FOLLOW, create, READ, 0);
    refused("path_open in a file", fd, "x", FOLLOW, 0, READ, 0);
    refused("path_open of the empty path", dir, "", FOLLOW, 0, READ, 0);
    refused("path_open of an absolute path", dir, "/file", FOLLOW, 0, READ, 0);
    refused("path_open that leads out", dir, "../../file", FOLLOW, create, READ, 0);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    refused("path_open of a name of 256 bytes", dir, name, FOLLOW, create, WRITE, 0);

    fd_is("fd_fdstat_get", fd);
    wrote("fd_write", fd, "0123456789");
    __wasi_filesize_t at = 77;
    gave("fd_tell", __wasi_fd_tell(fd, &at), at);
    sought("fd_seek set", fd, 2, __WASI_WHENCE_SET);
    char buffer[4] = {0};
    __wasi_size_t size = 0;
    gave("fd_read", __wasi_fd_read(fd, INTO(buffer), &size), size);
    printf("which are: %.4s\n", buffer);
    sought("fd_seek cur", fd, -1, __WASI_WHENCE_CUR);
    sought("fd_seek end", fd, -1, __WASI_WHENCE_END);
    sought("fd_seek before the beginning", fd, -1, __WASI_WHENCE_SET);
    gave("fd_pwrite", __wasi_fd_pwrite(fd, OF("ab"), 12, &size), size);
    holds_text("fd_pread", fd, 9);
    holds_text("fd_pread at the end", fd, 14);
    gave("fd_tell after those", __wasi_fd_tell(fd, &at), at);
    told("fd_filestat_set_size", __wasi_fd_filestat_set_size(fd, 4));
    told("fd_filestat_set_size to grow", __wasi_fd_filestat_set_size(fd, 6));
    told("fd_filestat_set_size beyond all", __wasi_fd_filestat_set_size(fd, -1));
    holds_text("what is there then", fd, 0);
    for (__wasi_advice_t advice = 0; advice < 6; advice++)
        told("fd_advise", __wasi_fd_advise(fd, 0, 4, advice));
    told("fd_allocate", __wasi_fd_allocate(fd, 0, 4));
    told("fd_sync", __wasi_fd_sync(fd));
    told("fd_datasync", __wasi_fd_datasync(fd));
    told("fd_fdstat_set_rights", __wasi_fd_fdstat_set_rights(fd, 0, 0));
    told("fd_fdstat_set_flags", __wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND | __WASI_FDFLAGS_NONBLOCK));
    fd_is("fd_fdstat_get of that", fd);
    wrote("fd_write to append", fd, "END");
    told("fd_fdstat_set_flags sync", __wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_SYNC));
    told("fd_fdstat_set_flags of none", __wasi_fd_fdstat_set_flags(fd, 0));
    holds_text("what was appended", fd, 6);
    told("fd_filestat_set_times", __wasi_fd_filestat_set_times(
        fd, 1000000002, 3000000004, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
    __wasi_filestat_t stat;
    file_is("fd_filestat_get", __wasi_fd_filestat_get(fd, &stat), &stat);
    printf("times: %llu %llu\n", stat.atim, stat.mtim);
    told("fd_filestat_set_times now", __wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_MTIM_NOW));
    told("fd_filestat_set_times both ways", __wasi_fd_filestat_set_times(
        fd, 0, 0, __WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_MTIM_NOW));
    (void)!__wasi_fd_filestat_get(fd, &stat);
    holds("that is now, and the other as it was", stat.mtim > 1704067200000000000 && stat.atim == 1000000002);

    __wasi_fd_t reads = opened("path_open to read", dir, "file", FOLLOW, 0, READ, 0);
    fd_is("fd_fdstat_get of that one", reads);
    wrote("fd_write to it", reads, "x");
    told("fd_filestat_set_size of it", __wasi_fd_filestat_set_size(reads, 0));
    __wasi_fd_t writes = opened("path_open to write", dir, "file", FOLLOW, 0, WRITE, __WASI_FDFLAGS_APPEND);
    fd_is("fd_fdstat_get of this one", writes);
    wrote("fd_write to this one", writes, "!");
    gave("fd_read from it", __wasi_fd_read(writes, INTO(buffer), &size), size);
    holds_text("what is appended", reads, 9);
    told("fd_renumber", __wasi_fd_renumber(writes, reads));
    fd_is("the new number", reads);
    told("the old one", __wasi_fd_close(writes));
    told("fd_renumber to nothing", __wasi_fd_renumber(reads, 999));
    told("fd_renumber of nothing", __wasi_fd_renumber(999, reads));
    told("fd_close", __wasi_fd_close(reads));
    told("fd_close again", __wasi_fd_close(reads));
    told("path_open trunc", __wasi_path_open(dir, FOLLOW, "file", __WASI_OFLAGS_TRUNC, WRITE, 0, 0, &writes));
    file_is("the file then", __wasi_fd_filestat_get(fd, &stat), &stat);
    (void)!__wasi_fd_close(writes);
    (void)!__wasi_fd_close(fd);
}

// The names and types of what is in a directory, in whatever order it has them.
static void list(const char *what, __wasi_fd_t dir) {
    uint8_t buffer[512];
    __wasi_size_t size = 0, at = 0;
    __wasi_errno_t error = __wasi_fd_readdir(dir, buffer, sizeof buffer, 0, &size);
    if (error)
        return told(what, error);
    char lines[16][64];
    int count = 0;
    while (at + sizeof(__wasi_dirent_t) <= size && count < 16) {
        __wasi_dirent_t entry;
        memcpy(&entry, buffer + at, sizeof entry);
        at += sizeof entry;
        snprintf(lines[count++], sizeof *lines, "%.*s (%s)", (int)entry.d_namlen, buffer + at, TYPES[entry.d_type]);
        at += entry.d_namlen;
    }
    qsort(lines, count, sizeof *lines, (int (*)(const void *, const void *))strcmp);
    for (int i = 0; i < count; i++)
        printf("%s: %s\n", what, lines[i]);
}

static void paths(__wasi_fd_t dir) {
    uint8_t text[16] = {0};
    __wasi_size_t size = 0;
    __wasi_filestat_t stat, other;
    told("path_create_directory", __wasi_path_create_directory(dir, "sub"));
    told("path_create_directory again", __wasi_path_create_directory(dir, "sub"));
    told("path_create_directory beneath nothing", __wasi_path_create_directory(dir, "no/sub"));
    told("path_create_directory that leads out", __wasi_path_create_directory(dir, "../../sub"));
    told("path_symlink", __wasi_path_symlink("../file", dir, "sub/link"));
    told("path_symlink again", __wasi_path_symlink("../file", dir, "sub/link"));
    told("path_symlink to an absolute path", __wasi_path_symlink("/file", dir, "absolute"));
    told("path_symlink that leads out", __wasi_path_symlink("../../../file", dir, "sub/out"));
    refused("path_open through that", dir, "sub/out", FOLLOW, 0, READ, 0);
    told("path_filestat_get through it", __wasi_path_filestat_get(dir, FOLLOW, "sub/out", &stat));
    gave("path_readlink", __wasi_path_readlink(dir, "sub/link", text, sizeof text, &size), size);
    printf("which is: %s\n", (char *)text);
    gave("path_readlink into little", __wasi_path_readlink(dir, "sub/link", text, 3, &size), size);
    gave("path_readlink of a file", __wasi_path_readlink(dir, "file", text, sizeof text, &size), size);
    refused("path_open of a link that is not followed", dir, "sub/link", 0, 0, READ, 0);
    file_is("path_filestat_get", __wasi_path_filestat_get(dir, 0, "sub/link", &stat), &stat);
    file_is("path_filestat_get follow", __wasi_path_filestat_get(dir, FOLLOW, "sub/link", &stat), &stat);
    file_is("path_filestat_get of nothing", __wasi_path_filestat_get(dir, 0, "nothing", &stat), &stat);
    told("path_link", __wasi_path_link(dir, 0, "file", dir, "sub/hard"));
    told("path_link again", __wasi_path_link(dir, 0, "file", dir, "sub/hard"));
    told("path_link of a directory", __wasi_path_link(dir, 0, "sub", dir, "other"));
    told("path_link of nothing", __wasi_path_link(dir, 0, "nothing", dir, "other"));
    told("path_link follow", __wasi_path_link(dir, FOLLOW, "sub/link", dir, "other"));
    file_is("a file of two names", __wasi_path_filestat_get(dir, 0, "sub/hard", &stat), &stat);
    (void)!__wasi_path_filestat_get(dir, 0, "file", &other);
    holds("it is one file", stat.ino == other.ino && stat.dev == other.dev);
    const __wasi_fstflags_t both = __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM;
    told("path_filestat_set_times follow", __wasi_path_filestat_set_times(dir, FOLLOW, "sub/link", 5, 6, both));
    told("path_filestat_set_times", __wasi_path_filestat_set_times(dir, 0, "sub/link", 7, 8, both));
    (void)!__wasi_path_filestat_get(dir, 0, "file", &stat);
    (void)!__wasi_path_filestat_get(dir, 0, "sub/link", &other);
    printf("times: %llu %llu, of the link %llu\n", stat.atim, stat.mtim, other.mtim);

    refused("path_open of a directory to write", dir, "sub", FOLLOW, 0, WRITE, 0);
    __wasi_fd_t sub = opened("path_open of a directory", dir, "sub", FOLLOW, __WASI_OFLAGS_DIRECTORY, READ, 0);
    list("fd_readdir", sub);
    file_is("fd_filestat_get of a directory", __wasi_fd_filestat_get(sub, &stat), &stat);
    told("fd_filestat_set_times of a directory", __wasi_fd_filestat_set_times(sub, 5, 6, both));
    told("fd_prestat_get of what was not preopened", __wasi_fd_prestat_get(sub, &(__wasi_prestat_t){0}));
    told("fd_read of a directory", __wasi_fd_read(sub, INTO(text), &size));
    wrote("fd_write to a directory", sub, "x");
    sought("fd_seek in a directory", sub, 0, __WASI_WHENCE_SET);
    told("fd_filestat_set_size of a directory", __wasi_fd_filestat_set_size(sub, 0));
    told("fd_advise of a directory", __wasi_fd_advise(sub, 0, 0, 0));
    told("fd_sync of a directory", __wasi_fd_sync(sub));
    told("fd_datasync of a directory", __wasi_fd_datasync(sub));

    told("path_rename", __wasi_path_rename(dir, "file", sub, "renamed"));
    told("path_rename of nothing", __wasi_path_rename(dir, "file", sub, "other"));
    told("path_create_directory beside it", __wasi_path_create_directory(dir, "other"));
    told("path_rename over a directory", __wasi_path_rename(sub, "renamed", dir, "other"));
    told("path_rename of a directory over a file", __wasi_path_rename(dir, "other", sub, "renamed"));
    told("path_rename of a directory over one that is not empty", __wasi_path_rename(dir, "other", dir, "sub"));
    told("path_rename of a directory", __wasi_path_rename(dir, "other", sub, "other"));
    told("path_remove_directory of what is empty", __wasi_path_remove_directory(sub, "other"));
    told("path_rename of a directory into itself", __wasi_path_rename(dir, "sub", sub, "sub"));
    told("path_remove_directory of what is not empty", __wasi_path_remove_directory(dir, "sub"));
    told("path_remove_directory of a file", __wasi_path_remove_directory(sub, "renamed"));
    told("path_unlink_file of a directory", __wasi_path_unlink_file(dir, "sub"));
    told("path_unlink_file of nothing", __wasi_path_unlink_file(dir, "nothing"));
    told("path_unlink_file", __wasi_path_unlink_file(sub, "renamed"));
    told("path_unlink_file of a link", __wasi_path_unlink_file(sub, "link"));
    (void)!__wasi_path_unlink_file(sub, "hard");
    (void)!__wasi_path_unlink_file(sub, "out");
    list("fd_readdir of what is empty", sub);
    (void)!__wasi_fd_close(sub);
    told("path_remove_directory", __wasi_path_remove_directory(dir, "sub"));
}

static void writes(const char *mount) {
    __wasi_fd_t top = preopened(mount), dir = -1;
    fd_is("the mount", top);
    told("the calls' own directory", __wasi_path_create_directory(top, "calls"));
    dir = opened("it is opened", top, "calls", FOLLOW, __WASI_OFLAGS_DIRECTORY, READ, 0);
    fd_is("fd_fdstat_get of it", dir);
    files(dir);
    paths(dir);
    (void)!__wasi_fd_close(dir);
    told("it is removed", __wasi_path_remove_directory(top, "calls"));
}

static void reads(const char *mount) {
    __wasi_fd_t top = preopened(mount);
    const __wasi_fstflags_t both = __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM;
    fd_is("the mount", top);
    refused("path_open to write", top, "file", FOLLOW, 0, READ | WRITE, 0);
    refused("path_open creat", top, "new", FOLLOW, __WASI_OFLAGS_CREAT, READ, 0);
    refused("path_open creat of what is there", top, "file", FOLLOW, __WASI_OFLAGS_CREAT, READ, 0);
    refused("path_open trunc", top, "file", FOLLOW, __WASI_OFLAGS_TRUNC, READ, 0);
    refused("path_open of nothing", top, "nothing", FOLLOW, 0, READ, 0);
    __wasi_fd_t fd = opened("path_open to read", top, "link", FOLLOW, 0, READ, 0);
    fd_is("fd_fdstat_get", fd);
    holds_text("fd_pread", fd, 0);
    __wasi_filestat_t stat;
    __wasi_size_t size = 0;
    file_is("fd_filestat_get", __wasi_fd_filestat_get(fd, &stat), &stat);
    wrote("fd_write", fd, "x");
    gave("fd_pwrite", __wasi_fd_pwrite(fd, OF("x"), 0, &size), size);
    told("fd_filestat_set_size", __wasi_fd_filestat_set_size(fd, 0));
    told("fd_filestat_set_size to grow", __wasi_fd_filestat_set_size(fd, 1 << 20));
    told("fd_filestat_set_times", __wasi_fd_filestat_set_times(fd, 1, 2, both));
    told("fd_sync", __wasi_fd_sync(fd));
    told("fd_datasync", __wasi_fd_datasync(fd));
    told("fd_advise", __wasi_fd_advise(fd, 0, 0, 0));
    told("fd_close", __wasi_fd_close(fd));
    told("path_create_directory", __wasi_path_create_directory(top, "new"));
    told("path_symlink", __wasi_path_symlink("file", top, "new"));
    told("path_link", __wasi_path_link(top, 0, "file", top, "new"));
    told("path_rename", __wasi_path_rename(top, "file", top, "new"));
    told("path_unlink_file", __wasi_path_unlink_file(top, "file"));
    told("path_remove_directory", __wasi_path_remove_directory(top, "sub"));
    told("path_filestat_set_times", __wasi_path_filestat_set_times(top, 0, "file", 1, 2, both));
    file_is("path_filestat_get", __wasi_path_filestat_get(top, 0, "link", &stat), &stat);
    uint8_t text[16] = {0};
    gave("path_readlink", __wasi_path_readlink(top, "link", text, sizeof text, &size), size);
    __wasi_fd_t sub = opened("path_open of a directory", top, "sub", FOLLOW, __WASI_OFLAGS_DIRECTORY, READ, 0);
    told("path_create_directory beneath it", __wasi_path_create_directory(sub, "new"));
    list("fd_readdir", top);
}

static void clocks(void) {
    static const char *const names[] = {"realtime", "monotonic", "process_cputime_id", "thread_cputime_id"};
    for (__wasi_clockid_t id = 0; id < 4; id++) {
        __wasi_timestamp_t resolution = 0, time = 0, again = 0;
        printf("%s, ", names[id]);
        told("clock_res_get", __wasi_clock_res_get(id, &resolution));
        printf("%s, ", names[id]);
        told("clock_time_get", __wasi_clock_time_get(id, 1, &time));
        if (__wasi_clock_time_get(id, 1, &again) == 0)
            holds("it goes on, by less than a second", resolution > 0 && resolution < 1000000000 && again >= time);
    }
    __wasi_timestamp_t real = 0, monotonic = 0;
    (void)!__wasi_clock_time_get(__WASI_CLOCKID_REALTIME, 1, &real);
    (void)!__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &monotonic);
    holds("the real clock is past 2024", real > 1704067200000000000);
    holds("the monotonic one begins with the guest", monotonic < 600000000000);
}

static __wasi_subscription_t timer(__wasi_userdata_t name, __wasi_clockid_t clock, __wasi_timestamp_t timeout, bool absolute) {
    return (__wasi_subscription_t){
        .userdata = name,
        .u = {.tag = __WASI_EVENTTYPE_CLOCK, .u.clock = {.id = clock, .timeout = timeout, .flags = absolute}},
    };
}

static __wasi_subscription_t stream(__wasi_userdata_t name, __wasi_eventtype_t kind, __wasi_fd_t fd) {
    return (__wasi_subscription_t){.userdata = name, .u = {.tag = kind, .u.fd_read = {fd}}};
}

static void polled(const char *what, const __wasi_subscription_t *wait, __wasi_size_t count) {
    __wasi_event_t events[4] = {0};
    __wasi_size_t found = 0;
    __wasi_errno_t error = __wasi_poll_oneoff(wait, events, count, &found);
    if (error)
        return told(what, error);
    printf("%s:", what);
    for (__wasi_size_t i = 0; i < found; i++)
        printf(" %llu of type %u, %s", events[i].userdata, events[i].type, ERRNOS[events[i].error]);
    printf("\n");
}

static void polls(void) {
    const __wasi_timestamp_t hour = 3600000000000, moment = 20000000;
    __wasi_timestamp_t begun = 0, ended = 0, real = 0;
    (void)!__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &begun);
    (void)!__wasi_clock_time_get(__WASI_CLOCKID_REALTIME, 1, &real);
    __wasi_subscription_t both[] = {
        timer(1, __WASI_CLOCKID_MONOTONIC, hour, false), timer(2, __WASI_CLOCKID_MONOTONIC, moment, false)};
    polled("the sooner of two clocks", both, 2);
    (void)!__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &ended);
    holds("it waited", ended - begun >= moment);
    polled("a moment of the real clock", (__wasi_subscription_t[]){timer(3, __WASI_CLOCKID_REALTIME, moment, false)}, 1);
    polled("a moment that is past", (__wasi_subscription_t[]){timer(4, __WASI_CLOCKID_MONOTONIC, begun, true)}, 1);
    polled("a real one that is past", (__wasi_subscription_t[]){timer(5, __WASI_CLOCKID_REALTIME, real, true)}, 1);
    polled("one that is to come", (__wasi_subscription_t[]){timer(6, __WASI_CLOCKID_MONOTONIC, ended + moment, true)}, 1);
    polled("the CPU's time", (__wasi_subscription_t[]){timer(7, __WASI_CLOCKID_PROCESS_CPUTIME_ID, moment, false)}, 1);
    polled("standard input, which is at its end",
           (__wasi_subscription_t[]){stream(8, __WASI_EVENTTYPE_FD_READ, 0), timer(9, __WASI_CLOCKID_MONOTONIC, hour, false)}, 2);
    polled("standard output",
           (__wasi_subscription_t[]){stream(10, __WASI_EVENTTYPE_FD_WRITE, 1), timer(11, __WASI_CLOCKID_MONOTONIC, hour, false)}, 2);
    polled("what is not open", (__wasi_subscription_t[]){stream(12, __WASI_EVENTTYPE_FD_READ, 77)}, 1);
    polled("nothing", both, 0);
}

static void others(int count, char **values) {
    __wasi_size_t number = 0, bytes = 0;
    told("args_sizes_get", __wasi_args_sizes_get(&number, &bytes));
    char text[512], *words[16];
    holds("they fit", number <= 16 && bytes <= sizeof text);
    told("args_get", __wasi_args_get((uint8_t **)words, (uint8_t *)text));
    for (__wasi_size_t i = 1; i < number; i++)
        printf("argument %lu: \"%s\"\n", i, words[i]);
    holds("main has the same", (int)number == count && strcmp(words[count - 1], values[count - 1]) == 0);
    told("environ_sizes_get", __wasi_environ_sizes_get(&number, &bytes));
    char *variables[number], *environment = malloc(bytes);
    told("environ_get", __wasi_environ_get((uint8_t **)variables, (uint8_t *)environment));
    for (__wasi_size_t i = 0; i < number; i++)
        if (strncmp(variables[i], "GREETING=", 9) == 0)
            printf("variable: %s\n", variables[i]);
    clocks();
    polls();
    uint8_t one[16] = {0}, other[16] = {0};
    told("random_get", __wasi_random_get(one, sizeof one));
    told("random_get again", __wasi_random_get(other, sizeof other));
    holds("they differ", memcmp(one, other, sizeof one) != 0);
    told("random_get of none", __wasi_random_get(one, 0));
    told("sched_yield", __wasi_sched_yield());
    told("proc_raise", proc_raise(15));
    for (__wasi_fd_t fd = 0; fd < 3; fd++)
        fd_is("a standard stream", fd);
    __wasi_filestat_t stat;
    file_is("fd_filestat_get of standard output", __wasi_fd_filestat_get(1, &stat), &stat);
    __wasi_size_t size = 0;
    __wasi_roflags_t flags = 0;
    gave("fd_read of standard input, which is at its end", __wasi_fd_read(0, INTO(one), &size), size);
    gave("fd_read of standard output", __wasi_fd_read(1, INTO(one), &size), size);
    gave("fd_pread of standard input", __wasi_fd_pread(0, INTO(one), 0, &size), size);
    gave("fd_pwrite to standard output", __wasi_fd_pwrite(1, OF("x"), 0, &size), size);
    wrote("fd_write to standard input", 0, "x");
    sought("fd_seek of standard output", 1, 0, __WASI_WHENCE_CUR);
    told("fd_fdstat_set_flags of standard output", __wasi_fd_fdstat_set_flags(1, __WASI_FDFLAGS_NONBLOCK));
    told("fd_sync of standard output", __wasi_fd_sync(1));
    told("fd_prestat_get of standard output", __wasi_fd_prestat_get(1, &(__wasi_prestat_t){0}));
    told("fd_prestat_dir_name of standard output", __wasi_fd_prestat_dir_name(1, one, sizeof one));
    told("fd_prestat_dir_name into little", __wasi_fd_prestat_dir_name(3, one, 0));
    told("fd_readdir of standard output", __wasi_fd_readdir(1, one, sizeof one, 0, &size));
    refused("path_open in standard output", 1, "file", 0, 0, READ, 0);
    told("fd_close of what is not open", __wasi_fd_close(77));
    told("sock_recv", __wasi_sock_recv(1, INTO(one), 0, &size, &flags));
    told("sock_send", __wasi_sock_send(1, OF("x"), 0, &size));
    told("sock_shutdown", __wasi_sock_shutdown(1, __WASI_SDFLAGS_RD));
    told("fd_close of standard input", __wasi_fd_close(0));
    told("fd_close of it again", __wasi_fd_close(0));
}

int main(int count, char **values) {
    // What is said before a trap is not lost.
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    const char *what = count > 1 ? values[1] : "";
    if (remaining_grace() != -1)
        printf("it ends already\n");
    if (strcmp(what, "exits") == 0)
        __wasi_proc_exit(atoi(values[2]));
    void (*tried)(const char *) = strcmp(what, "writes") == 0 ? writes : strcmp(what, "reads") == 0 ? reads : NULL;
    if (!tried)
        others(count, values);
    for (int i = 2; tried && i < count; i++) {
        printf("-- %s\n", values[i]);
        tried(values[i]);
    }
    return 0;
}
