/* SPDX-License-Identifier: MIT */
/*
 * Has the kernel do a call in part, as it may with every read and write of a stream: strace can make a call fail, but not
 * that. The call is made, with a shorter length, so nothing is lost and nothing invented.
 *
 *	partial CALL NUMBER REPORT -p PID
 *	partial CALL NUMBER REPORT COMMAND [ARGUMENT]...
 *
 * It is the NUMBERth CALL (read, pread64, write, sendto, recvfrom: then of one byte; getdents64: of an entry or two) of
 * those that the kernel may answer so, on regular files, directories and stream sockets. With NUMBER 0, all of them. At
 * the end REPORT has for each CALL how many were cut of how many. SIGTERM has it leave a process that ran before; to one
 * that was started it is passed on, and the exit status is that one's (128 + a signal's number).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "agent/util/array.h"

#define ENTRY_MAX 280 /* bytes, of the longest name */

static const struct {
	const char *name;
	unsigned long long number, length;
} calls[] = {
	{ "read", SYS_read, 1 },
	{ "pread64", SYS_pread64, 1 },
	{ "write", SYS_write, 1 },
	{ "sendto", SYS_sendto, 1 },
	{ "recvfrom", SYS_recvfrom, 1 },
	{ "getdents64", SYS_getdents64, ENTRY_MAX },
};

static void die(const char *what)
{
	(void)fprintf(stderr, "partial: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static bool is_stream_socket(pid_t pid, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), copy, type = 0;
	socklen_t size = sizeof(type);

	copy = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (copy >= 0)
		(void)getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &size);
	if (copy >= 0)
		(void)close(copy);
	if (pidfd >= 0)
		(void)close(pidfd);
	return type == SOCK_STREAM;
}

/* Its handlers give all, if the buffer has room: kernel/sysctl.c. */
static bool is_sysctl(const char *link)
{
	static const char place[] = "/proc/sys/";
	char target[sizeof(place) - 1];

	return readlink(link, target, sizeof(target)) == sizeof(target) &&
	       memcmp(target, place, sizeof(target)) == 0;
}

/* A datagram, an event or a timer comes whole or not at all. */
static bool comes_in_parts(pid_t pid, int fd)
{
	struct stat st;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	if (stat(path, &st) < 0 || is_sysctl(path))
		return false;
	if (S_ISSOCK(st.st_mode))
		return is_stream_socket(pid, fd);
	/* Among those without a type are what epoll, inotify and timerfd made. */
	return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
}

struct job {
	pid_t pid;
	size_t call;
	unsigned long wanted, cut, seen[ELEMENTS_OF(calls)];
	bool is_leaving;
};

static size_t find_call(unsigned long long number)
{
	size_t i = 0;

	while (i < ELEMENTS_OF(calls) && calls[i].number != number)
		i++;
	return i;
}

static void at_entry(struct job *job)
{
	struct user_regs_struct regs;
	size_t i;

	if (ptrace(PTRACE_GETREGS, job->pid, NULL, &regs) < 0)
		return; /* it was killed */
	i = find_call(regs.orig_rax);
	if (i == ELEMENTS_OF(calls) || regs.rdx <= calls[i].length ||
		!comes_in_parts(job->pid, (int)regs.rdi))
		return;
	job->seen[i]++;
	if (i != job->call || (job->wanted != 0 && job->seen[i] != job->wanted))
		return;
	regs.rdx = calls[i].length;
	if (ptrace(PTRACE_SETREGS, job->pid, NULL, &regs) == 0)
		job->cut++;
}

/* Goes on with the process, or leaves it. Returns false then. */
static bool at_stop(struct job *job, int status)
{
	struct __ptrace_syscall_info info = { .op = PTRACE_SYSCALL_INFO_NONE };
	int number = WSTOPSIG(status);
	bool is_inside = false;

	if (number == (SIGTRAP | 0x80)) {
		(void)ptrace(PTRACE_GET_SYSCALL_INFO, job->pid, sizeof(info), &info);
		is_inside = info.op == PTRACE_SYSCALL_INFO_ENTRY;
		if (is_inside)
			at_entry(job);
		number = 0;
	} else if (status >> 16) { /* an exec, or that it was interrupted */
		number = 0;
	}
	if (job->is_leaving && !is_inside) {
		(void)ptrace(PTRACE_DETACH, job->pid, NULL, (void *)(long)number);
		return false;
	}
	(void)ptrace(PTRACE_SYSCALL, job->pid, NULL, (void *)(long)number);
	return true;
}

static void start(struct job *job, char *argv[], const sigset_t *mask)
{
	job->pid = fork();
	if (job->pid < 0)
		die("fork");
	if (job->pid == 0) {
		(void)sigprocmask(SIG_SETMASK, mask, NULL);
		(void)raise(SIGSTOP);
		(void)execv(argv[0], argv);
		die(argv[0]);
	}
	if (waitpid(job->pid, NULL, WUNTRACED) < 0)
		die("waitpid");
}

static void seize(const struct job *job, bool is_guest)
{
	unsigned long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;

	if (!is_guest)
		options |= PTRACE_O_EXITKILL;
	if (ptrace(PTRACE_SEIZE, job->pid, NULL, options) < 0)
		die("ptrace");
	if (is_guest)
		(void)ptrace(PTRACE_INTERRUPT, job->pid, NULL, NULL);
	else
		(void)kill(job->pid, SIGCONT);
}

static void report(const char *path, const struct job *job)
{
	FILE *file = fopen(path, "we");

	if (!file)
		die(path);
	for (size_t i = 0; i < ELEMENTS_OF(calls); i++)
		(void)fprintf(file, "%s: %lu of %lu\n", calls[i].name,
			i == job->call ? job->cut : 0, job->seen[i]);
	if (fclose(file) != 0)
		die(path);
}

/* Returns the exit status. */
static int follow(struct job *job, bool is_guest, const sigset_t *set)
{
	for (;;) {
		int status, number;
		pid_t pid;

		while ((pid = waitpid(job->pid, &status, WNOHANG)) > 0) {
			if (WIFEXITED(status))
				return WEXITSTATUS(status);
			if (WIFSIGNALED(status))
				return 128 + WTERMSIG(status);
			if (!at_stop(job, status))
				return EXIT_SUCCESS;
		}
		if (pid < 0)
			die("waitpid");
		number = sigwaitinfo(set, NULL);
		if (number == SIGCHLD || number < 0)
			continue;
		job->is_leaving = is_guest;
		if (is_guest)
			(void)ptrace(PTRACE_INTERRUPT, job->pid, NULL, NULL);
		else
			(void)kill(job->pid, number);
	}
}

int main(int argc, char *argv[])
{
	struct job job = { 0 };
	bool is_guest = argc == 6 && strcmp(argv[4], "-p") == 0;
	sigset_t set, before;
	int r;

	if (argc < 5)
		return EX_USAGE;
	while (strcmp(calls[job.call].name, argv[1]) != 0)
		if (++job.call == ELEMENTS_OF(calls))
			return EX_USAGE;
	job.wanted = strtoul(argv[2], NULL, 10);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, &before);
	if (is_guest)
		job.pid = (pid_t)strtol(argv[5], NULL, 10);
	else
		start(&job, argv + 4, &before);
	seize(&job, is_guest);
	r = follow(&job, is_guest, &set);
	report(argv[3], &job);
	return r;
}
