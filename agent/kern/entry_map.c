/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
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
	closep(&maps->server_ports);
	closep(&maps->exempt_clients);
	closep(&maps->counters);
	closep(&maps->kept);
	*maps = ENTRY_MAPS_NONE;
}

struct map_spec {
	const char *name;
	uint32_t type, key_size, value_size;
};

enum map_index {
	MAP_REMOTES,
	MAP_SOURCES,
	MAP_SERVER_PORTS,
	MAP_EXEMPT_CLIENTS,
	MAP_COUNTERS,
	MAP_KEPT,
};

static const struct map_spec specs[] = {
	[MAP_REMOTES] = { "remotes", BPF_MAP_TYPE_HASH, sizeof(struct maps_remote_key),
		sizeof(struct maps_entry) },
	[MAP_SOURCES] = { "sources", BPF_MAP_TYPE_HASH, sizeof(struct maps_source_key),
		sizeof(struct maps_entry) },
	[MAP_SERVER_PORTS] = { "server_ports", BPF_MAP_TYPE_HASH, sizeof(uint32_t),
		sizeof(struct maps_server_ports) },
	[MAP_EXEMPT_CLIENTS] = { "exempt_clients", BPF_MAP_TYPE_LPM_TRIE,
		sizeof(struct maps_client_key), sizeof(uint8_t) },
	[MAP_COUNTERS] = { "counters", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(uint32_t),
		sizeof(struct maps_direct_counters) },
	[MAP_KEPT] = { "kept", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
		sizeof(struct maps_kept_counters) },
};

static int map_info(int fd, struct bpf_map_info *ret)
{
	uint32_t size = sizeof(*ret);

	*ret = (struct bpf_map_info){ 0 };
	return bpf_obj_get_info_by_fd(fd, ret, &size) < 0 ? -errno : 0;
}

static bool fits(const struct map_spec *spec, const struct bpf_map_info *info)
{
	return info->type == spec->type && info->key_size == spec->key_size &&
	       info->value_size == spec->value_size;
}

static int open_map(const char *directory, const struct map_spec *spec, bool read_only, int *ret_fd,
	uint32_t *ret_max)
{
	_cleanup_close_ int fd = -1;
	struct bpf_map_info info;
	char path[PIN_PATH_MAX];
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, spec->name);
	r = pin_open(path, PIN_OBJECT_MAP, read_only, &fd);
	if (r == 0)
		r = map_info(fd, &info);
	if (r < 0)
		return r == -EMEDIUMTYPE ? -EINVAL : r;
	if (!fits(spec, &info))
		return -EINVAL;
	*ret_max = info.max_entries;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int entry_maps_open(const char *directory, bool read_only, struct entry_maps *ret)
{
	_cleanup_(entry_maps_done) struct entry_maps maps = ENTRY_MAPS_NONE;
	int *const fds[ELEMENTS_OF(specs)] = {
		[MAP_REMOTES] = &maps.remotes,
		[MAP_SOURCES] = &maps.sources,
		[MAP_SERVER_PORTS] = &maps.server_ports,
		[MAP_EXEMPT_CLIENTS] = &maps.exempt_clients,
		[MAP_COUNTERS] = &maps.counters,
		[MAP_KEPT] = &maps.kept,
	};
	uint32_t max[ELEMENTS_OF(specs)];

	for (size_t i = 0; i < ELEMENTS_OF(specs); i++) {
		int r = open_map(directory, &specs[i], read_only, fds[i], &max[i]);

		if (r < 0)
			return r;
	}
	if (max[MAP_SOURCES] != max[MAP_REMOTES] || max[MAP_KEPT] != max[MAP_COUNTERS])
		return -EINVAL;
	maps.max_rows = max[MAP_REMOTES];
	maps.n_slots = max[MAP_COUNTERS];
	*ret = maps;
	maps = ENTRY_MAPS_NONE;
	return 0;
}

static int check_map(const char *directory, const struct map_spec *spec, struct pin_problem *ret)
{
	_cleanup_close_ int fd = -1;
	struct bpf_map_info info;
	char path[PIN_PATH_MAX];
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, spec->name);
	r = pin_check(path, PIN_OBJECT_MAP, ret);
	if (r == 0)
		r = pin_open(path, PIN_OBJECT_MAP, true, &fd);
	if (r == 0)
		r = map_info(fd, &info);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (fits(spec, &info))
		return 0;
	return pin_problem(ret, path,
		"it is a map of type %u, key size %u, value size %u, not %u, %u, %u", info.type,
		info.key_size, info.value_size, spec->type, spec->key_size, spec->value_size);
}

int entry_maps_check(const char *directory, struct pin_problem *ret)
{
	int r = pin_check_directory(directory, ret);

	for (size_t i = 0; r == 0 && i < ELEMENTS_OF(specs); i++)
		r = check_map(directory, &specs[i], ret);
	return r;
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

/* Ports that are missing make the row differ from any that should be there, so it will be mended. */
static int read_ports(const struct entry_maps *maps, struct row *row)
{
	if (!(row->entry.flags & MAPS_FLAG_SERVER_PORTS))
		return 0;
	if (bpf_map_lookup_elem(maps->server_ports, &row->entry.slot, &row->server_ports) < 0 &&
		errno != ENOENT)
		return -errno;
	return 0;
}

static int read_map(const struct entry_maps *maps, enum row_map map, struct rows *rows)
{
	int fd = map == ROW_REMOTES ? maps->remotes : maps->sources;
	union row_key key, next;
	struct row *slot;

	/* While somebody writes, the walk may start over: the bound ends it, the caller removes twins. */
	for (uint32_t i = 0; i <= 2 * maps->max_rows; i++) {
		struct row row;
		int r;

		if (bpf_map_get_next_key(fd, i == 0 ? NULL : &key, &next) < 0)
			return errno == ENOENT ? 0 : -errno;
		key = next;
		row = row_of(map, &key);
		if (bpf_map_lookup_elem(fd, &key, &row.entry) < 0) {
			if (errno == ENOENT) /* removed between the two calls */
				continue;
			return -errno;
		}
		r = read_ports(maps, &row);
		if (r < 0)
			return r;
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

	r = read_map(maps, ROW_REMOTES, &rows);
	if (r < 0)
		return r;
	r = read_map(maps, ROW_SOURCES, &rows);
	if (r < 0)
		return r;
	rows_sort(&rows);
	remove_twins(&rows);
	*ret = rows;
	rows = (struct rows){ 0 };
	return 0;
}

int entry_maps_set_count(
	const struct entry_maps *maps, uint32_t slot, const struct slot_counters *counters)
{
	_cleanup_free_ struct maps_direct_counters *values = NULL;
	int n_cpus = libbpf_num_possible_cpus();

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	values[0] = counters->direct; /* read, those of all CPUs are added up */
	if (bpf_map_update_elem(maps->counters, &slot, values, BPF_ANY) < 0 ||
		bpf_map_update_elem(maps->kept, &slot, &counters->kept, BPF_ANY) < 0)
		return -errno;
	return 0;
}

static int zero_slot(const struct entry_maps *maps, uint32_t slot)
{
	static const struct slot_counters none;

	return entry_maps_set_count(maps, slot, &none);
}

static int put_row(const struct entry_maps *maps, const struct row *row, enum maps_mode mode)
{
	int fd = row->map == ROW_REMOTES ? maps->remotes : maps->sources;
	union row_key key = key_of(row);
	struct maps_entry entry = row->entry;

	entry.mode = (uint8_t)mode;
	entry.key = row->map == ROW_REMOTES ? key.remote.remote : key.source.inner_source;
	return bpf_map_update_elem(fd, &key, &entry, BPF_ANY) < 0 ? -errno : 0;
}

static int put_ports(const struct entry_maps *maps, const struct row *row)
{
	return bpf_map_update_elem(
		       maps->server_ports, &row->entry.slot, &row->server_ports, BPF_ANY) < 0
		       ? -errno
		       : 0;
}

/*
 * The ports are there before the row that needs them, and go after it. Whatever fails, and wherever it is killed, what
 * counts of both belongs together.
 */
static int upsert(const struct entry_maps *maps, const struct row *row, bool rests)
{
	bool has_ports = row->entry.flags & MAPS_FLAG_SERVER_PORTS;
	int r = 0;

	if (rests)
		r = put_row(maps, row, MAPS_MODE_TUNNEL);
	if (r == 0 && has_ports)
		r = put_ports(maps, row);
	if (r == 0)
		r = put_row(maps, row, (enum maps_mode)row->entry.mode);
	if (r == 0 && !has_ports)
		(void)bpf_map_delete_elem(maps->server_ports, &row->entry.slot);
	return r;
}

static int remove_row(const struct entry_maps *maps, const struct row *row)
{
	int fd = row->map == ROW_REMOTES ? maps->remotes : maps->sources;
	union row_key key = key_of(row);

	if (bpf_map_delete_elem(fd, &key) < 0 && errno != ENOENT)
		return -errno;
	(void)bpf_map_delete_elem(maps->server_ports, &row->entry.slot);
	return 0;
}

int entry_maps_apply(const struct entry_maps *maps, const struct plan_op *op)
{
	int r = -EINVAL;

	/* The front never has what the map has not: it is left first and entered last. */
	if (op->row.map == ROW_REMOTES && op->verb != PLAN_ADD)
		front_remove(&maps->front, op->row.remote);
	switch (op->verb) {
	case PLAN_ADD:
		r = zero_slot(maps, op->row.entry.slot);
		if (r == 0)
			r = upsert(maps, &op->row, op->rests);
		break;
	case PLAN_CHANGE:
		r = upsert(maps, &op->row, op->rests);
		break;
	case PLAN_REMOVE:
		return remove_row(maps, &op->row);
	}
	if (r == 0)
		front_put(&maps->front, &op->row);
	return r;
}

int entry_maps_read_clients(const struct entry_maps *maps, struct clients *ret)
{
	_cleanup_(clients_done) struct clients clients = { 0 };
	struct maps_client_key key, next;
	struct ip4_prefix *slot;

	/* As in read_map(). */
	for (size_t i = 0; i <= 2 * (size_t)MAPS_EXEMPT_CLIENTS_MAX; i++) {
		if (bpf_map_get_next_key(maps->exempt_clients, i == 0 ? NULL : &key, &next) < 0) {
			if (errno != ENOENT)
				return -errno;
			*ret = clients;
			clients = (struct clients){ 0 };
			return 0;
		}
		key = next;
		slot = ARRAY_APPEND(clients.list, clients.n);
		if (!slot)
			return -ENOMEM;
		*slot = (struct ip4_prefix){ { key.client }, (uint8_t)key.prefix_length };
		clients.n++;
	}
	return -EAGAIN;
}

int entry_maps_apply_client(const struct entry_maps *maps, const struct client_op *op)
{
	struct maps_client_key key = { op->prefix.length, op->prefix.address.be };
	const uint8_t value = 1;

	if (op->add)
		return bpf_map_update_elem(maps->exempt_clients, &key, &value, BPF_ANY) < 0 ? -errno
											    : 0;
	return bpf_map_delete_elem(maps->exempt_clients, &key) < 0 && errno != ENOENT ? -errno : 0;
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
