/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kern/entry_map.h"
#include "agent/kern/pins.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

void entry_maps_done(struct entry_maps *maps)
{
	closep(&maps->remotes);
	closep(&maps->sources);
	closep(&maps->counters);
	closep(&maps->kept);
	*maps = ENTRY_MAPS_NONE;
}

static int open_map(const char *path, bool read_only, uint32_t type, uint32_t key_size,
	uint32_t value_size, int *ret_fd, uint32_t *ret_max)
{
	LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = read_only ? BPF_F_RDONLY : 0);
	_cleanup_close_ int fd = -1;
	struct bpf_map_info info = { 0 };
	uint32_t size = sizeof(info);

	fd = bpf_obj_get_opts(path, &options);
	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	if (info.type != type || info.key_size != key_size || info.value_size != value_size)
		return -EINVAL;
	*ret_max = info.max_entries;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int entry_maps_open(bool read_only, struct entry_maps *ret)
{
	_cleanup_(entry_maps_done) struct entry_maps maps = ENTRY_MAPS_NONE;
	uint32_t max_sources, max_kept;
	int r;

	r = open_map(PINS_MAPS_DIR "/remotes", read_only, BPF_MAP_TYPE_HASH,
		sizeof(struct maps_remote_key), sizeof(struct maps_entry), &maps.remotes,
		&maps.max_rows);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/sources", read_only, BPF_MAP_TYPE_HASH,
		sizeof(struct maps_source_key), sizeof(struct maps_entry), &maps.sources,
		&max_sources);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/counters", read_only, BPF_MAP_TYPE_PERCPU_ARRAY,
		sizeof(uint32_t), sizeof(struct maps_direct_counters), &maps.counters,
		&maps.n_slots);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/kept", read_only, BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
		sizeof(struct maps_kept_counters), &maps.kept, &max_kept);
	if (r < 0)
		return r;
	if (max_sources != maps.max_rows || max_kept != maps.n_slots)
		return -EINVAL;
	*ret = maps;
	maps = ENTRY_MAPS_NONE;
	return 0;
}

union row_key {
	struct maps_remote_key remote;
	struct maps_source_key source;
};

static struct row row_of(enum row_map map, const union row_key *key)
{
	struct row row = { .map = map, .tunnel = SIZE_MAX };

	if (map == ROW_REMOTES) {
		row.remote.be = key->remote.remote;
	} else {
		row.remote.be = key->source.remote;
		row.inner_source.be = key->source.inner_source;
	}
	return row;
}

static union row_key key_of(const struct row *row)
{
	union row_key key = { 0 };

	if (row->map == ROW_REMOTES)
		key.remote.remote = row->remote.be;
	else
		key.source = (struct maps_source_key){ row->remote.be, row->inner_source.be };
	return key;
}

static int read_map(int fd, enum row_map map, uint32_t max_rows, struct rows *rows)
{
	union row_key key, next;
	struct row *slot;

	/* While somebody writes, the walk may start over: the bound ends it, the caller removes twins. */
	for (uint32_t i = 0; i <= 2 * max_rows; i++) {
		struct row row;

		if (bpf_map_get_next_key(fd, i == 0 ? NULL : &key, &next) < 0)
			return errno == ENOENT ? 0 : -errno;
		key = next;
		row = row_of(map, &key);
		if (bpf_map_lookup_elem(fd, &key, &row.entry) < 0) {
			if (errno == ENOENT) /* removed between the two calls */
				continue;
			return -errno;
		}
		slot = ARRAY_APPEND(rows->list, rows->n);
		if (!slot)
			return -ENOMEM;
		*slot = row;
		rows->n++;
	}
	return -EAGAIN;
}

static void remove_twins(struct rows *rows)
{
	size_t n = 0;

	for (size_t i = 0; i < rows->n; i++)
		if (n == 0 || row_compare(&rows->list[n - 1], &rows->list[i]) != 0)
			rows->list[n++] = rows->list[i];
	rows->n = n;
}

int entry_maps_read(const struct entry_maps *maps, struct rows *ret)
{
	_cleanup_(rows_done) struct rows rows = { 0 };
	int r;

	r = read_map(maps->remotes, ROW_REMOTES, maps->max_rows, &rows);
	if (r < 0)
		return r;
	r = read_map(maps->sources, ROW_SOURCES, maps->max_rows, &rows);
	if (r < 0)
		return r;
	rows_sort(&rows);
	remove_twins(&rows);
	*ret = rows;
	rows = (struct rows){ 0 };
	return 0;
}

static int zero_slot(const struct entry_maps *maps, uint32_t slot)
{
	static const struct maps_kept_counters no_kept;
	_cleanup_free_ struct maps_direct_counters *values = NULL;
	int n_cpus = libbpf_num_possible_cpus();

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	if (bpf_map_update_elem(maps->counters, &slot, values, BPF_ANY) < 0 ||
		bpf_map_update_elem(maps->kept, &slot, &no_kept, BPF_ANY) < 0)
		return -errno;
	return 0;
}

int entry_maps_apply(const struct entry_maps *maps, const struct plan_op *op)
{
	int fd = op->row.map == ROW_REMOTES ? maps->remotes : maps->sources;
	union row_key key = key_of(&op->row);
	int r;

	switch (op->verb) {
	case PLAN_ADD:
		r = zero_slot(maps, op->row.entry.slot);
		if (r < 0)
			return r;
		/* fall through */
	case PLAN_CHANGE:
		return bpf_map_update_elem(fd, &key, &op->row.entry, BPF_ANY) < 0 ? -errno : 0;
	case PLAN_REMOVE:
		return bpf_map_delete_elem(fd, &key) < 0 && errno != ENOENT ? -errno : 0;
	}
	return -EINVAL;
}

int entry_maps_count(const struct entry_maps *maps, uint32_t slot, struct slot_counters *ret)
{
	_cleanup_free_ struct maps_direct_counters *values = NULL;
	int n_cpus = libbpf_num_possible_cpus();
	struct slot_counters sum = { 0 };

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	if (bpf_map_lookup_elem(maps->counters, &slot, values) < 0 ||
		bpf_map_lookup_elem(maps->kept, &slot, &sum.kept) < 0)
		return -errno;
	for (int i = 0; i < n_cpus; i++) {
		sum.direct.packets += values[i].packets;
		sum.direct.bytes += values[i].bytes;
	}
	*ret = sum;
	return 0;
}
