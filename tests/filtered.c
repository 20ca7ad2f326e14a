/* SPDX-License-Identifier: MIT */
/*
 * filtered LIST COMMAND...: runs it under a seccomp filter that lets the system calls of the file LIST through, a name a
 * line, and kills for any other. LIST is what the unit allows, so a call that it forbids cannot pass unnoticed. As by the
 * unit, the limit of locked memory is lifted, and there is no right to lift it oneself.
 */
#include <errno.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int allow_listed(scmp_filter_ctx filter, const char *path)
{
	FILE *list = fopen(path, "re");
	char name[64];
	int n = 0, r = 0;

	if (!list)
		return -errno;
	while (r == 0 && fscanf(list, "%63s", name) == 1) {
		int call = seccomp_syscall_resolve_name(name);

		/* Negative: not of this architecture, or younger than the library. */
		if (call >= 0)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
		n += call >= 0;
	}
	(void)fclose(list);
	return r == 0 && n == 0 ? -EINVAL : r;
}

static int filter_load(const char *path)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!filter)
		return -ENOMEM;
	r = allow_listed(filter, path);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

int main(int argc, char **argv)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int r;

	if (argc < 3) {
		(void)fprintf(stderr, "usage: filtered LIST COMMAND [ARGUMENT]...\n");
		return 2;
	}
	/* Whoever has neither right has neither need. */
	(void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
	(void)prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
	r = filter_load(argv[1]);
	if (r < 0) {
		(void)fprintf(stderr, "filtered: %s: %s\n", argv[1], strerror(-r));
		return 2;
	}
	(void)execvp(argv[2], argv + 2);
	(void)fprintf(stderr, "filtered: %s: %s\n", argv[2], strerror(errno));
	return 127;
}
