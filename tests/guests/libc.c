// What a C program finds: it uses the library as any would, and prints a line for each thing that it tries.
//
//     libc DIRECTORY [ARGUMENT...]       tries everything, files in the DIRECTORY
//     libc DIRECTORY exit|_Exit|return|abort
//
// Of what differs from run to run it says whether it is as it should be.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

// Says what a call gave, or why it did not.
static void gave(const char *what, long result) {
    if (result < 0)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: %ld\n", what, result);
}

static void holds(const char *what, bool is_so) {
    printf("%s: %s\n", what, is_so ? "yes" : "NO");
}

static void arguments(int count, char **values) {
    printf("arguments: %d\n", count - 2);
    for (int i = 2; i < count; i++)
        printf("argument %d: \"%s\"\n", i - 1, values[i]);
    printf("GREETING: %s\n", getenv("GREETING"));
    holds("NOBODY is not set", getenv("NOBODY") == NULL);
    int variables = 0;
    while (environ[variables])
        variables++;
    holds("the environment has GREETING", variables > 0);
    setenv("NOBODY", "somebody", 1);
    printf("NOBODY, once set: %s\n", getenv("NOBODY"));
}

static void standard_streams(void) {
    char line[16];
    holds("standard input is at its end", fgets(line, sizeof line, stdin) == NULL && feof(stdin));
    for (int fd = 0; fd < 3; fd++) {
        errno = 0;
        holds("a standard stream is no terminal", !isatty(fd) && errno == ENOTTY);
    }
    printf("%5d|%-5s|%05.2f|%x|%c|%%|%.3s\n", 42, "ab", 3.14159, 255u, 'z', "truncated");
    fprintf(stderr, "this is standard error\n");
    putchar('x');
    puts("yz");
    fwrite("raw\n", 1, 4, stdout);
    fflush(stdout);
    gave("write to standard output", write(STDOUT_FILENO, "direct\n", 7));
    gave("a seek on standard output", lseek(STDOUT_FILENO, 0, SEEK_CUR));
    gave("a write to a closed descriptor", write(77, "x", 1));
}

static void buffered(void) {
    FILE *file = fopen("notes", "w+");
    holds("fopen w+", file != NULL);
    gave("fprintf", fprintf(file, "%s %d\n", "one", 1));
    gave("fputs", fputs("two 2\n", file) < 0 ? -1 : 0);
    rewind(file);
    char word[8];
    int number = 0;
    gave("fscanf", fscanf(file, "%7s %d", word, &number));
    printf("scanned: %s %d\n", word, number);
    gave("fseek", fseek(file, 4, SEEK_SET));
    gave("fgetc", fgetc(file));
    gave("ungetc", ungetc('X', file));
    gave("fgetc of that", fgetc(file));
    gave("ftell", ftell(file));
    gave("fseek to the end", fseek(file, 0, SEEK_END));
    gave("ftell there", ftell(file));
    gave("fgetc there", fgetc(file) == EOF && feof(file) ? 0 : -1);
    gave("fclose", fclose(file));
    file = fopen("notes", "a");
    gave("fputs to append", fputs("three 3\n", file) < 0 ? -1 : 0);
    fclose(file);
    file = fopen("notes", "r");
    char line[16];
    while (fgets(line, sizeof line, file))
        printf("line: %s", line);
    errno = 0;
    holds("fputs to what is read", fputs("x", file) < 0 && ferror(file));
    fclose(file);
    errno = 0;
    holds("fopen of nothing", fopen("nothing", "r") == NULL && errno == ENOENT);
    holds("fopen wx of what is there", fopen("notes", "wx") == NULL && errno == EEXIST);
    gave("remove", remove("notes"));
}

static void unbuffered(void) {
    char buffer[32] = {0};
    int fd = open("data", O_RDWR | O_CREAT | O_EXCL, 0644);
    holds("open", fd > 2);
    gave("write", write(fd, "0123456789", 10));
    gave("lseek", lseek(fd, 2, SEEK_SET));
    gave("read", read(fd, buffer, 3));
    printf("read: %s\n", buffer);
    gave("lseek back", lseek(fd, -1, SEEK_CUR));
    gave("lseek from the end", lseek(fd, -2, SEEK_END));
    gave("lseek before the beginning", lseek(fd, -1, SEEK_SET));
    gave("pwrite", pwrite(fd, "ab", 2, 12));
    gave("pread", pread(fd, buffer, 5, 9));
    holds("a hole is zeroes", memcmp(buffer, "9\0\0ab", 5) == 0);
    struct iovec parts[] = {{buffer, 2}, {buffer + 2, 3}};
    gave("lseek to 0", lseek(fd, 0, SEEK_SET));
    long got = readv(fd, parts, 2);
    holds("readv", got > 0 && got <= 5 && memcmp(buffer, "01234", got) == 0);
    gave("ftruncate", ftruncate(fd, 4));
    gave("lseek to the end", lseek(fd, 0, SEEK_END));
    gave("ftruncate to grow", ftruncate(fd, 6));
    gave("pread all", pread(fd, buffer, sizeof buffer, 0));
    holds("what was cut is zeroes", memcmp(buffer, "0123\0\0", 6) == 0);
    gave("pread at the end", pread(fd, buffer, sizeof buffer, 6));
    gave("fsync", fsync(fd));
    gave("fdatasync", fdatasync(fd));
    gave("posix_fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    gave("fcntl F_GETFL", fcntl(fd, F_GETFL) & O_ACCMODE ? 0 : -1);
    gave("fcntl F_SETFL", fcntl(fd, F_SETFL, O_APPEND));
    gave("lseek to 0 again", lseek(fd, 0, SEEK_SET));
    gave("write to append", write(fd, "END", 3));
    gave("pread of that", pread(fd, buffer, 3, 6));
    holds("it is at the end", memcmp(buffer, "END", 3) == 0);
    gave("close", close(fd));
    gave("close again", close(fd));
    gave("open of what is there", open("data", O_RDWR | O_CREAT | O_EXCL, 0644));
    fd = open("data", O_RDONLY);
    gave("write to what is read", write(fd, "x", 1));
    close(fd);
    fd = open("data", O_WRONLY | O_TRUNC);
    gave("read of what is written", read(fd, buffer, 1));
    struct stat found;
    gave("fstat", fstat(fd, &found));
    printf("size once truncated: %lld\n", (long long)found.st_size);
    close(fd);
    gave("open of a directory to write", open(".", O_WRONLY));
    gave("open of a file as a directory", open("data", O_RDONLY | O_DIRECTORY));
    gave("unlink", unlink("data"));
    gave("unlink again", unlink("data"));
}

static int compare(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static const char *kind(mode_t mode) {
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : "other";
}

static void list(const char *path) {
    char *names[16];
    int count = 0;
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (count < 16 && (entry = readdir(directory)))
        asprintf(&names[count++], "%s%s", entry->d_name,
                 entry->d_type == DT_DIR ? "/" : entry->d_type == DT_LNK ? "@" : "");
    closedir(directory);
    qsort(names, count, sizeof *names, compare);
    printf("entries:");
    for (int i = 0; i < count; i++) {
        printf(" %s", names[i]);
        free(names[i]);
    }
    printf("\n");
}

static void paths(void) {
    struct stat found, other;
    gave("mkdir", mkdir("sub", 0755));
    gave("mkdir again", mkdir("sub", 0755));
    gave("mkdir beneath nothing", mkdir("no/sub", 0755));
    close(open("sub/file", O_WRONLY | O_CREAT, 0644));
    gave("symlink", symlink("file", "sub/link"));
    gave("symlink to an absolute path", symlink("/file", "sub/absolute"));
    gave("link", link("sub/file", "sub/hard"));
    char target[16] = {0};
    gave("readlink", readlink("sub/link", target, sizeof target));
    printf("the link leads to: %s\n", target);
    gave("readlink of a file", readlink("sub/file", target, sizeof target));
    list("sub");
    gave("stat", stat("sub/link", &found));
    gave("stat of the other name", stat("sub/hard", &other));
    printf("a %s with %d names\n", kind(found.st_mode), (int)found.st_nlink);
    holds("one file has one number", found.st_ino == other.st_ino && found.st_dev == other.st_dev);
    gave("lstat", lstat("sub/link", &found));
    printf("a %s of %lld bytes\n", kind(found.st_mode), (long long)found.st_size);
    gave("stat of nothing", stat("sub/none", &found));
    gave("stat beneath a file", stat("sub/file/x", &found));
    gave("open of a link that is not followed", open("sub/link", O_RDONLY | O_NOFOLLOW));
    gave("access", access("sub/file", F_OK));
    struct timespec times[] = {{1, 2}, {3, 4}};
    gave("utimensat", utimensat(AT_FDCWD, "sub/file", times, 0));
    stat("sub/file", &found);
    printf("times: %lld.%09ld %lld.%09ld\n", (long long)found.st_atim.tv_sec, found.st_atim.tv_nsec,
           (long long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
    gave("rename", rename("sub/file", "sub/renamed"));
    gave("rename of nothing", rename("sub/file", "sub/other"));
    gave("rmdir of what is not empty", rmdir("sub"));
    gave("rmdir of a file", rmdir("sub/renamed"));
    gave("unlink of a directory", unlink("sub"));
    gave("open by a link to nothing", open("sub/link", O_RDONLY));
    gave("a directory's fsync", fsync(open("sub", O_RDONLY | O_DIRECTORY)));
    unlink("sub/renamed");
    unlink("sub/hard");
    unlink("sub/link");
    gave("rmdir", rmdir("sub"));
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    int fd = openat(directory, "at", O_WRONLY | O_CREAT, 0644);
    holds("openat", fd > 2);
    gave("fstatat", fstatat(directory, "at", &found, 0));
    gave("renameat", renameat(directory, "at", directory, "to"));
    gave("unlinkat", unlinkat(directory, "to", 0));
    gave("a path that leads out", open("../../../../outside", O_RDONLY));
    gave("chdir", chdir("/"));
    char cwd[64];
    printf("getcwd: %s\n", getcwd(cwd, sizeof cwd));
}

static long long nanoseconds(struct timespec time) {
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return nanoseconds(time);
}

static void clocks(void) {
    struct timespec found;
    gave("clock_gettime CLOCK_REALTIME", clock_gettime(CLOCK_REALTIME, &found));
    holds("it is after 2024", found.tv_sec > 1704067200);
    gave("clock_gettime CLOCK_MONOTONIC", clock_gettime(CLOCK_MONOTONIC, &found));
    holds("it began with the program", found.tv_sec < 600);
    gave("clock_getres CLOCK_REALTIME", clock_getres(CLOCK_REALTIME, &found));
    holds("it is fine", found.tv_sec == 0 && found.tv_nsec > 0);
    gave("clock_getres CLOCK_MONOTONIC", clock_getres(CLOCK_MONOTONIC, &found));
    holds("it is as fine", found.tv_sec == 0 && found.tv_nsec > 0);
    gave("clock_gettime CLOCK_PROCESS_CPUTIME_ID", clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &found));
    gave("clock_gettime CLOCK_THREAD_CPUTIME_ID", clock_gettime(CLOCK_THREAD_CPUTIME_ID, &found));
    holds("time is the real clock's", llabs(time(NULL) - now(CLOCK_REALTIME) / 1000000000) <= 1);
}

static void waits(void) {
    struct timespec pause = {0, 20000000};
    long long begun = now(CLOCK_MONOTONIC);
    gave("nanosleep", nanosleep(&pause, NULL));
    holds("it took as long", now(CLOCK_MONOTONIC) - begun >= 20000000);
    begun = now(CLOCK_MONOTONIC);
    gave("clock_nanosleep", clock_nanosleep(CLOCK_REALTIME, 0, &pause, NULL));
    holds("it took as long, too", now(CLOCK_MONOTONIC) - begun >= 20000000);
    gave("usleep", usleep(1000));
    gave("sched_yield", sched_yield());
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    gave("poll of standard input, which is at its end", poll(&input, 1, 10000));
    holds("it can be read", input.revents & POLLIN);
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    gave("poll of standard output", poll(&output, 1, 10000));
    holds("it can be written", output.revents & POLLOUT);
    begun = now(CLOCK_MONOTONIC);
    gave("poll of nothing for 20 ms", poll(NULL, 0, 20));
    holds("it waited", now(CLOCK_MONOTONIC) - begun >= 20000000);
}

static void random_numbers(void) {
    unsigned char one[32] = {0}, other[32] = {0};
    gave("getentropy", getentropy(one, sizeof one));
    gave("getentropy again", getentropy(other, sizeof other));
    holds("they differ", memcmp(one, other, sizeof one) != 0);
    unsigned char much[257];
    gave("getentropy of 257 bytes", getentropy(much, sizeof much));
}

static void said_at_the_end(void) {
    puts("atexit");
}

int main(int count, char **values) {
    const char *what = count > 2 ? values[2] : "";
    if (strcmp(what, "exit") == 0) {
        atexit(said_at_the_end);
        exit(3);
    }
    if (strcmp(what, "_Exit") == 0) {
        atexit(said_at_the_end);
        _Exit(204);
    }
    if (strcmp(what, "return") == 0)
        return 7;
    if (strcmp(what, "abort") == 0)
        abort();
    arguments(count, values);
    standard_streams();
    gave("chdir to the directory", chdir(values[1]));
    buffered();
    unbuffered();
    paths();
    clocks();
    waits();
    random_numbers();
    return 0;
}
