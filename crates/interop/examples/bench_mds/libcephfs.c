/* The same phases as the benchmark beside it, with Ceph's own library: what a program in C would do today.
 *
 * Arguments: configuration file, number of threads, number of names, directory. One line of JSON for each phase. With
 * `walk` in place of the number of threads it only walks the directory, as find(1) does, and prints how many entries
 * there were. */
#define _FILE_OFFSET_BITS 64
#define _GNU_SOURCE
#include <cephfs/libcephfs.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static struct ceph_mount_info *mount_;
static const char *conf, *dir;
static long count, threads;

static void check(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %ld\n", what, result);
		exit(1);
	}
}

static void remount(void)
{
	if (mount_) {
		ceph_unmount(mount_);
		ceph_release(mount_);
	}
	check(ceph_create(&mount_, "admin"), "create");
	check(ceph_conf_read_file(mount_, conf), "conf");
	check(ceph_mount(mount_, "/"), "mount");
}

static double seconds(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

typedef void (*step_fn)(long i);

static void do_create(long i)
{
	char path[512];
	snprintf(path, sizeof path, "%s/f%ld", dir, i);
	int fd = ceph_open(mount_, path, O_CREAT | O_EXCL | O_WRONLY, 0644);
	check(fd, path);
	check(ceph_close(mount_, fd), "close");
}

static void do_mkdir(long i)
{
	char path[512];
	snprintf(path, sizeof path, "%s/d%ld", dir, i);
	check(ceph_mkdir(mount_, path, 0755), path);
}

static void do_stat(long i)
{
	char path[512];
	struct ceph_statx stx;
	snprintf(path, sizeof path, "%s/f%ld", dir, i);
	check(ceph_statx(mount_, path, &stx, CEPH_STATX_BASIC_STATS, AT_SYMLINK_NOFOLLOW), path);
}

static void do_lookup(long i)
{
	char path[512];
	struct ceph_statx stx;
	snprintf(path, sizeof path, "%s/f%ld", dir, i);
	check(ceph_statx(mount_, path, &stx, CEPH_STATX_INO, AT_SYMLINK_NOFOLLOW | AT_NO_ATTR_SYNC), path);
}

static void do_rename(long i)
{
	char from[512], to[512];
	snprintf(from, sizeof from, "%s/f%ld", dir, i);
	snprintf(to, sizeof to, "%s/r%ld", dir, i);
	check(ceph_rename(mount_, from, to), from);
}

struct share {
	step_fn step;
	long first;
};

static void *work(void *argument)
{
	struct share *share = argument;
	for (long i = share->first; i < count; i += threads)
		share->step(i);
	return NULL;
}

static void report(const char *phase, long ops, double wall, double cpu)
{
	printf("{\"phase\":\"%s\",\"ops\":%ld,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n", phase, ops, wall, cpu);
	fflush(stdout);
}

static void phase(const char *name, step_fn step)
{
	pthread_t ids[64];
	struct share shares[64];
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	for (long t = 0; t < threads; t++) {
		shares[t] = (struct share){ step, t };
		check(-pthread_create(&ids[t], NULL, work, &shares[t]), "thread");
	}
	for (long t = 0; t < threads; t++)
		pthread_join(ids[t], NULL);
	report(name, count, seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

static long list(const char *path, int recurse)
{
	struct ceph_dir_result *open;
	struct dirent entry;
	struct ceph_statx stx;
	long found = 0;
	check(ceph_opendir(mount_, path, &open), path);
	while (1) {
		int more = ceph_readdirplus_r(mount_, open, &entry, &stx, CEPH_STATX_BASIC_STATS, 0, NULL);
		check(more, path);
		if (!more)
			break;
		if (!strcmp(entry.d_name, ".") || !strcmp(entry.d_name, ".."))
			continue;
		found++;
		if (recurse && S_ISDIR(stx.stx_mode)) {
			char below[1024];
			snprintf(below, sizeof below, "%s/%s", path, entry.d_name);
			found += list(below, 1);
		}
	}
	ceph_closedir(mount_, open);
	return found;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	conf = argv[1];
	threads = atol(argv[2]);
	count = atol(argv[3]);
	dir = argv[4];
	remount();
	if (!strcmp(argv[2], "walk")) {
		printf("%ld\n", list(dir, 1));
		ceph_unmount(mount_);
		return 0;
	}
	check(ceph_mkdir(mount_, dir, 0755), dir);
	phase("create", do_create);
	remount();
	phase("stat", do_stat);
	remount();
	phase("lookup", do_lookup);
	remount();
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	long found = list(dir, 0);
	report("readdir", found, seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	/* With the names just listed: on a cold cache the library looks both up before it asks for the rename. */
	phase("rename", do_rename);
	phase("mkdir", do_mkdir);
	ceph_unmount(mount_);
	return 0;
}
