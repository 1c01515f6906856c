/* The same phases as the benchmark beside it, with Ceph's own library: what a program in C would do today.
 *
 * Arguments: configuration file, phase, number of threads, number of names, directory. It mounts, says that it is ready,
 * waits for a line, does the one phase, prints a line of JSON about it, waits for another line, and unmounts. `walk` lists
 * the directory and all below it, as find(1) does, and waits for nothing. */
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

static void mount(void)
{
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

/* Waits for whoever measures. */
static void wait_for_line(void)
{
	char line[16];
	if (!fgets(line, sizeof line, stdin))
		exit(1);
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
	wait_for_line();
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
	ready();
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
	if (argc != 6)
		return 2;
	conf = argv[1];
	const char *name = argv[2];
	threads = atol(argv[3]);
	count = atol(argv[4]);
	dir = argv[5];
	mount();
	if (!strcmp(name, "create")) {
		check(ceph_mkdir(mount_, dir, 0755), dir);
		phase(name, do_create);
	} else if (!strcmp(name, "stat")) {
		phase(name, do_stat);
	} else if (!strcmp(name, "lookup")) {
		phase(name, do_lookup);
	} else if (!strcmp(name, "rename")) {
		/* With the names just listed: on a cold cache the library looks both up before it asks for the rename. */
		list(dir, 0);
		phase(name, do_rename);
	} else if (!strcmp(name, "mkdir")) {
		check(ceph_mkdir(mount_, dir, 0755), dir);
		phase(name, do_mkdir);
	} else if (!strcmp(name, "readdir")) {
		ready();
		double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
		long found = list(dir, 0);
		report(name, found, seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	} else {
		list(dir, 1);
		ceph_unmount(mount_);
		return 0;
	}
	wait_for_line();
	ceph_unmount(mount_);
	return 0;
}
