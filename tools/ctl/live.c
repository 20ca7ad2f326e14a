/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "agent/kern/map_dirs.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/live.h"

#define BPFFS "/sys/fs/bpf"

int live_read(struct live *ret)
{
	_cleanup_(live_done) struct live live = LIVE_NONE;
	int r;

	r = entry_maps_open(PINS_MAPS_DIR, true, &live.maps);
	if (r < 0)
		return r;
	r = entry_maps_read(&live.maps, &live.rows);
	if (r < 0)
		return r;
	*ret = live;
	live = LIVE_NONE;
	return 0;
}

void live_done(struct live *live)
{
	entry_maps_done(&live->maps);
	rows_done(&live->rows);
	free(live->counters);
	*live = LIVE_NONE;
}

int live_count(struct live *live)
{
	_cleanup_free_ struct slot_counters *counters = calloc(live->rows.n + 1, sizeof(*counters));
	int r;

	if (!counters)
		return -ENOMEM;
	for (size_t i = 0; i < live->rows.n; i++) {
		r = entry_maps_count(&live->maps, live->rows.list[i].entry.slot, &counters[i]);
		if (r < 0)
			return r;
	}
	r = entry_maps_count(&live->maps, MAPS_SLOT_NONE, &live->no_entry);
	if (r < 0)
		return r;
	free(live->counters);
	live->counters = TAKE_PTR(counters);
	return 0;
}

struct map_use live_use(const struct live *live)
{
	struct map_use use = { 0 };

	for (size_t i = 0; i < live->rows.n; i++)
		if (live->rows.list[i].map == ROW_SOURCES)
			use.sources++;
		else
			use.remotes++;
	return use;
}

size_t live_find(const struct live *live, struct ip4 remote, struct ip4 inner_source)
{
	struct row key = {
		.map = ip4_is_none(inner_source) ? ROW_REMOTES : ROW_SOURCES,
		.remote = remote,
		.inner_source = inner_source,
	};
	const struct row *found;

	found = rows_find(&live->rows, &key);
	return found ? (size_t)(found - live->rows.list) : SIZE_MAX;
}

int live_check_bpffs(void)
{
	struct statfs fs;

	if (statfs(BPFFS, &fs) == 0 && fs.f_type != BPF_FS_MAGIC)
		return -ENOENT;
	return 0;
}

int live_fail_bpffs(const struct ctl *ctl)
{
	return ctl_fail(ctl, CTL_FAILED, "no-bpffs",
		"\"ip netns exec\" hides it: use \"nsenter --net=FILE\"; if it is nowhere: "
		"mount -t bpf bpf " BPFFS,
		"there is no BPF file system on " BPFFS " here");
}

int live_fail(const struct ctl *ctl, int r)
{
	bool others = false;

	if (r == -ENOENT && live_check_bpffs() == 0)
		(void)map_dirs_have_others(&others);
	switch (others ? -EINVAL : r) {
	case -ENOENT:
		if (live_check_bpffs() < 0)
			return live_fail_bpffs(ctl);
		return ctl_fail(ctl, CTL_FAILED, "no-pins", CTL_HINT_START,
			"no maps are pinned: the agent has not run here yet, or everything was "
			"detached");
	case -EACCES:
	case -EPERM:
		return ctl_fail(ctl, CTL_FAILED, "permission", CTL_HINT_READ,
			"cannot open the pinned maps: %s", strerror(-r));
	case -EINVAL:
		return ctl_fail(ctl, CTL_FAILED, "pins-invalid",
			"use the ipipdirectctl of the version that pinned them",
			"what is pinned are not the maps of this version (ABI %d)", MAPS_ABI);
	case -EAGAIN:
		return ctl_fail(ctl, CTL_FAILED, "changing", "try again",
			"the maps change faster than they can be read");
	default:
		return ctl_fail(ctl, CTL_FAILED, "failed", NULL, "cannot read the pinned maps: %s",
			strerror(-r));
	}
}

void slot_counters_add(struct slot_counters *sum, const struct slot_counters *counters)
{
	sum->direct.packets += counters->direct.packets;
	sum->direct.bytes += counters->direct.bytes;
	for (size_t i = 0; i < MAPS_REASON_ROOM; i++)
		sum->kept.packets[i] += counters->kept.packets[i];
}

uint64_t kept_packets(const struct slot_counters *counters)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		if (i != MAPS_KEPT_NO_ENTRY && i != MAPS_DROP_WRITE_FAILED)
			sum += counters->kept.packets[i];
	return sum;
}
