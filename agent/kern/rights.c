/* SPDX-License-Identifier: MIT */
#include <cap-ng.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "agent/kern/rights.h"
#include "agent/util/account.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "schema/maps.h"

#define BPFFS "/sys/fs/bpf"

static const struct {
	unsigned int number;
	const char *name;
} needed[] = {
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN" },
	{ CAP_NET_BROADCAST, "CAP_NET_BROADCAST" },
	{ CAP_BPF, "CAP_BPF" },
	{ CAP_PERFMON, "CAP_PERFMON" },
};

/* The sets of this process, as the kernel shows them. */
struct capability_sets {
	uint64_t inheritable, permitted, effective, bounding, ambient;
	unsigned int no_new_privs;
};

static uint64_t bit(unsigned int number)
{
	return UINT64_C(1) << number;
}

static uint64_t needed_bits(void)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < ELEMENTS_OF(needed); i++)
		bits |= bit(needed[i].number);
	return bits;
}

static int read_sets(struct capability_sets *ret)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/status", "re");
	struct capability_sets sets = { 0 };
	unsigned int n = 0;
	char line[256];

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file))
		n += sscanf(line, "CapInh: %" SCNx64, &sets.inheritable) == 1 ||
		     sscanf(line, "CapPrm: %" SCNx64, &sets.permitted) == 1 ||
		     sscanf(line, "CapEff: %" SCNx64, &sets.effective) == 1 ||
		     sscanf(line, "CapBnd: %" SCNx64, &sets.bounding) == 1 ||
		     sscanf(line, "CapAmb: %" SCNx64, &sets.ambient) == 1 ||
		     sscanf(line, "NoNewPrivs: %u", &sets.no_new_privs) == 1;
	if (n != 6)
		return -ENODATA;
	*ret = sets;
	return 0;
}

/* "CAP_BPF, CAP_PERFMON"; "" when none is missing, or nobody can tell. */
static uint64_t list_missing(char *buf, size_t size)
{
	struct capability_sets sets;
	uint64_t missing = 0;

	buf[0] = '\0';
	if (read_sets(&sets) < 0)
		return 0;
	for (size_t i = 0; i < ELEMENTS_OF(needed); i++) {
		size_t n = strlen(buf);

		if (sets.effective & bit(needed[i].number))
			continue;
		missing |= bit(needed[i].number);
		(void)snprintf(buf + n, size - n, "%s%s", n > 0 ? ", " : "", needed[i].name);
	}
	return missing;
}

/* The bounding set first: that takes CAP_SETPCAP, which goes with the rest. */
static int apply_sets(const struct capability_sets *before)
{
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < ELEMENTS_OF(needed); i++) {
		capng_type_t sets = CAPNG_BOUNDING_SET;

		if (before->permitted & bit(needed[i].number))
			sets |= CAPNG_EFFECTIVE | CAPNG_PERMITTED;
		if (capng_update(CAPNG_ADD, sets, needed[i].number) < 0)
			return -EINVAL;
	}
	if ((before->effective & bit(CAP_SETPCAP)) && capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		return -EPERM;
	if (capng_apply(CAPNG_SELECT_CAPS) < 0 || capng_apply(CAPNG_SELECT_AMBIENT) < 0)
		return -EPERM;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* What was asked for is believed when the kernel shows it. */
static int check_sets(const struct capability_sets *before, char *buf, size_t size)
{
	uint64_t kept = before->permitted & needed_bits();
	struct capability_sets now;
	int r = read_sets(&now);

	if (r < 0) {
		(void)snprintf(buf, size, "/proc/self/status: %s", strerror(-r));
		return r;
	}
	if (now.permitted == kept && now.effective == kept && now.inheritable == 0 &&
		now.ambient == 0 && now.no_new_privs == 1 &&
		(!(before->effective & bit(CAP_SETPCAP)) ||
			now.bounding == (before->bounding & needed_bits())))
		return 0;
	(void)snprintf(buf, size,
		"wanted %" PRIx64 ", left are: permitted %" PRIx64 ", effective %" PRIx64
		", inheritable %" PRIx64 ", ambient %" PRIx64 ", bounding %" PRIx64,
		kept, now.permitted, now.effective, now.inheritable, now.ambient, now.bounding);
	return -ENOTRECOVERABLE;
}

/*
 * libbpf would try when the right to do so is gone. Who does not have it does not ask: the unit has the limit
 * lifted and forbids the system call. If need be rights_explain() has the word.
 */
static void lift_memlock(const struct capability_sets *sets)
{
	const struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	if (sets->effective & bit(CAP_SYS_RESOURCE))
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

int rights_drop(char *buf, size_t size)
{
	struct capability_sets before;
	int r;

	r = read_sets(&before);
	if (r == 0)
		lift_memlock(&before);
	if (r == 0 && capng_get_caps_process() < 0)
		r = -EINVAL;
	if (r == 0)
		r = apply_sets(&before);
	if (r < 0) {
		(void)snprintf(buf, size, "%s", strerror(-r));
		return r;
	}
	return check_sets(&before, buf, size);
}

int rights_check(bool reads_only, char *buf, size_t size)
{
	uint64_t missing = list_missing(buf, size), without = bit(CAP_PERFMON);

	if (reads_only)
		without |= bit(CAP_NET_BROADCAST);
	return missing & ~without ? -EPERM : 0;
}

static bool has_bpffs(void)
{
	struct statfs fs;

	return statfs(BPFFS, &fs) == 0 ? fs.f_type == BPF_FS_MAGIC : errno == EACCES;
}

static void explain_permission(char *buf, size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		(void)snprintf(buf, size,
			"kernels before 5.11 charge BPF maps to the limit of locked memory, here "
			"%llu KiB: LimitMEMLOCK=infinity, or \"ulimit -l unlimited\"",
			(unsigned long long)limit.rlim_cur / 1024);
	else
		(void)snprintf(buf, size,
			"no capability is missing: is the kernel locked down "
			"(/sys/kernel/security/lockdown), or a seccomp filter in the way?");
}

void rights_explain(int error, char *buf, size_t size)
{
	char missing[80];

	buf[0] = '\0';
	list_missing(missing, sizeof(missing));
	if (!has_bpffs())
		(void)snprintf(buf, size,
			"there is no BPF file system on " BPFFS ": mount -t bpf bpf " BPFFS
			"; \"ip netns exec\" hides it, \"nsenter --net=FILE\" does not");
	else if (missing[0]) /* the verifier has many ways to refuse */
		(void)snprintf(buf, size, "it lacks %s", missing);
	else if (error == -EPERM)
		explain_permission(buf, size);
	else if (error == -EACCES && access(MAPS_PIN_ROOT, R_OK | W_OK | X_OK) < 0)
		(void)snprintf(buf, size,
			MAPS_PIN_ROOT
			" is not open to user %u: \"ipipdirectd --prepare\", as root, "
			"opens it to user " ACCOUNT_NAME,
			(unsigned int)geteuid());
	else if (error == -EACCES)
		(void)snprintf(buf, size,
			"a pin below " MAPS_PIN_ROOT " belongs to somebody else; or the verifier "
			"refused the program: --log-level debug shows its reasons");
	else if (error == -ENOMEM || error == -E2BIG)
		(void)snprintf(buf, size, "no memory for so many rows: lower max_entries");
	else if (error == -EINVAL)
		(void)snprintf(buf, size,
			"the kernel is too old or lacks an option (CONFIG_BPF_SYSCALL, "
			"CONFIG_NET_CLS_BPF, CONFIG_DEBUG_INFO_BTF); --log-level debug shows more");
}
