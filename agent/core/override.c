/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/override.h"
#include "agent/core/status.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define TEXT_VERSION 1

static void override_done(struct mode_override *override)
{
	free(override->netns);
	free(override->given);
}

void overrides_done(struct overrides *overrides)
{
	for (size_t i = 0; i < overrides->n; i++)
		override_done(&overrides->list[i]);
	free(overrides->list);
	*overrides = (struct overrides){ 0 };
}

static int compare(const struct mode_override *override, const char *netns, const char *ifname)
{
	int order = strcmp(override->netns, netns);

	return order != 0 ? order : strcmp(override->ifname, ifname);
}

/* Where it is, or where it would be. */
static size_t place_of(const struct overrides *overrides, const char *netns, const char *ifname)
{
	size_t low = 0, high = overrides->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(&overrides->list[middle], netns, ifname) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct mode_override *find(
	const struct overrides *overrides, const char *netns, const char *ifname)
{
	size_t i = place_of(overrides, netns, ifname);

	if (i < overrides->n && compare(&overrides->list[i], netns, ifname) == 0)
		return &overrides->list[i];
	return NULL;
}

static int insert(
	struct overrides *overrides, const char *netns, const char *ifname, size_t *ret_place)
{
	size_t i = place_of(overrides, netns, ifname);
	_cleanup_free_ char *copy = strdup(netns);
	struct mode_override *list;

	if (overrides->n >= OVERRIDES_MAX)
		return -E2BIG;
	if (!copy || !ARRAY_APPEND(overrides->list, overrides->n))
		return -ENOMEM;
	list = overrides->list;
	memmove(&list[i + 1], &list[i], (overrides->n - i) * sizeof(*list));
	list[i] = (struct mode_override){ .netns = TAKE_PTR(copy) };
	memcpy(list[i].ifname, ifname, strlen(ifname) + 1);
	overrides->n++;
	*ret_place = i;
	return 0;
}

int overrides_set(struct overrides *overrides, const char *netns, const char *ifname,
	enum maps_mode mode, bool until_reload)
{
	struct mode_override *override;
	size_t place;
	int r;

	if (!netns[0] || strlen(netns) > OVERRIDE_NAME_MAX || !ifname[0] ||
		strlen(ifname) >= IFNAMSIZ)
		return -EINVAL;
	override = find(overrides, netns, ifname);
	if (!override) {
		r = insert(overrides, netns, ifname, &place);
		if (r < 0)
			return r;
		override = &overrides->list[place];
	}
	override->mode = mode;
	override->until_reload = until_reload;
	return 0;
}

static void remove_at(struct overrides *overrides, size_t i)
{
	override_done(&overrides->list[i]);
	overrides->n--;
	memmove(&overrides->list[i], &overrides->list[i + 1],
		(overrides->n - i) * sizeof(*overrides->list));
}

bool overrides_remove(struct overrides *overrides, const char *netns, const char *ifname)
{
	struct mode_override *override = find(overrides, netns, ifname);

	if (override)
		remove_at(overrides, (size_t)(override - overrides->list));
	return override != NULL;
}

static bool is_given(const struct mode_override *override, uint64_t seq)
{
	for (size_t i = 0; i < override->n_given; i++)
		if (override->given[i] == seq)
			return true;
	return false;
}

bool overrides_has(const struct overrides *overrides, const char *netns, const char *ifname)
{
	return find(overrides, netns, ifname) != NULL;
}

int overrides_give(struct overrides *overrides, const char *netns, const char *ifname, uint64_t seq)
{
	struct mode_override *override = find(overrides, netns, ifname);
	uint64_t *slot;

	if (!override || is_given(override, seq))
		return 0;
	slot = ARRAY_APPEND(override->given, override->n_given);
	if (!slot)
		return -ENOMEM;
	*slot = seq;
	override->n_given++;
	return 0;
}

void overrides_take_from(struct overrides *overrides, uint64_t seq, const char *ifname)
{
	for (size_t i = 0; i < overrides->n; i++) {
		struct mode_override *override = &overrides->list[i];
		size_t n = 0;

		if (strcmp(override->ifname, ifname) != 0)
			continue;
		for (size_t j = 0; j < override->n_given; j++)
			if (override->given[j] != seq)
				override->given[n++] = override->given[j];
		override->n_given = n;
	}
}

void overrides_drop_until_reload(struct overrides *overrides)
{
	for (size_t i = overrides->n; i-- > 0;)
		if (overrides->list[i].until_reload)
			remove_at(overrides, i);
}

int overrides_copy(const struct overrides *overrides, struct overrides *ret)
{
	_cleanup_(overrides_done) struct overrides copy = { 0 };

	for (size_t i = 0; i < overrides->n; i++) {
		const struct mode_override *from = &overrides->list[i];
		int r = overrides_set(
			&copy, from->netns, from->ifname, from->mode, from->until_reload);

		for (size_t j = 0; r == 0 && j < from->n_given; j++)
			r = overrides_give(&copy, from->netns, from->ifname, from->given[j]);
		if (r < 0)
			return r;
	}
	*ret = copy;
	copy = (struct overrides){ 0 };
	return 0;
}

bool override_is_about(const char *name, const struct netns *netns)
{
	for (size_t i = 0; i < netns->n_names; i++)
		if (strcmp(netns->names[i], name) == 0)
			return true;
	return strcmp(netns_label(netns), name) == 0;
}

/* The one that sends less direct. */
static const struct mode_override *lesser(
	const struct mode_override *a, const struct mode_override *b)
{
	if (!a || !b)
		return a ? a : b;
	return b->mode > a->mode ? b : a;
}

int overrides_move(struct overrides *overrides, const char *name, const char *ifname,
	const struct netns *netns)
{
	const struct mode_override *from = find(overrides, name, ifname), *there;
	const char *label = netns_label(netns);
	struct mode_override given;
	int r;

	if (!from || !is_given(from, netns->seq) || override_is_about(name, netns))
		return 0;
	there = find(overrides, label, ifname);
	given = *lesser(from, there);
	overrides_take_from(overrides, netns->seq, ifname);
	r = overrides_set(overrides, label, ifname, given.mode, given.until_reload);
	return r < 0 ? r : overrides_give(overrides, label, ifname, netns->seq);
}

static const struct mode_override *find_given(
	const struct overrides *overrides, uint64_t seq, const char *ifname)
{
	for (size_t i = 0; i < overrides->n; i++)
		if (is_given(&overrides->list[i], seq) &&
			strcmp(overrides->list[i].ifname, ifname) == 0)
			return &overrides->list[i];
	return NULL;
}

const struct mode_override *overrides_find(
	const struct overrides *overrides, const struct netns *netns, const struct ipip_link *link)
{
	const struct mode_override *override;

	if (!overrides || overrides->n == 0)
		return NULL;
	override = find_given(overrides, netns->seq, link->name);
	for (size_t i = 0; i < netns->n_names; i++)
		override = lesser(override, find(overrides, netns->names[i], link->name));
	return lesser(override, find(overrides, netns_label(netns), link->name));
}

static json_t *item_make(const struct mode_override *override, json_t *netns, json_t *ifname)
{
	return json_pack("{s:o, s:o, s:s, s:b}", "netns", netns, "ifname", ifname, "mode",
		maps_mode_name(override->mode), "until_reload", override->until_reload);
}

json_t *overrides_json(const struct overrides *overrides)
{
	json_t *array = json_array();

	for (size_t i = 0; array && overrides && i < overrides->n; i++) {
		const struct mode_override *override = &overrides->list[i];

		(void)json_array_append_new(array, item_make(override, status_text(override->netns),
							   status_text(override->ifname)));
	}
	return array;
}

/* JSON has no other strings than UTF-8, and names are any bytes. */
static bool is_text(const char *bytes)
{
	json_auto_t *text = json_string(bytes);

	return text != NULL;
}

static json_t *hex_make(const char *bytes)
{
	_cleanup_free_ char *digits = malloc(2 * strlen(bytes) + 1);

	if (!digits)
		return NULL;
	digits[0] = '\0';
	for (size_t i = 0; bytes[i]; i++)
		(void)sprintf(digits + 2 * i, "%02x", (unsigned char)bytes[i]);
	return json_string(digits);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whether it is a name of less than `size` bytes. */
static bool hex_parse(const char *digits, char *ret, size_t size)
{
	size_t n = strlen(digits) / 2;

	if (strlen(digits) % 2 != 0 || n >= size)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(digits[2 * i]), low = hex_digit(digits[2 * i + 1]);

		if (high < 0 || low < 0 || (high == 0 && low == 0))
			return false;
		ret[i] = (char)(high << 4 | low);
	}
	ret[n] = '\0';
	return true;
}

/*
 * Names that are no text are in a list of their own, in hexadecimal: to show them as the status does cannot be undone,
 * and may make them longer than a name is. An agent that does not know that list still reads the other.
 */
char *overrides_text(const struct overrides *overrides)
{
	json_auto_t *document = json_pack(
		"{s:i, s:[], s:[]}", "version", TEXT_VERSION, "overrides", "overrides_hex");
	json_t *texts = json_object_get(document, "overrides");
	json_t *others = json_object_get(document, "overrides_hex");

	for (size_t i = 0; i < overrides->n; i++) {
		const struct mode_override *override = &overrides->list[i];
		const char *netns = override->netns, *ifname = override->ifname;
		int r;

		if (is_text(netns) && is_text(ifname))
			r = json_array_append_new(texts,
				item_make(override, json_string(netns), json_string(ifname)));
		else
			r = json_array_append_new(
				others, item_make(override, hex_make(netns), hex_make(ifname)));
		if (r < 0)
			return NULL;
	}
	return document ? json_dumps(document, JSON_INDENT(1)) : NULL;
}

/* Of whom it is known that he has a mode, and not which, the tunnel has the packets. */
static int parse_one(const json_t *item, bool hex, struct overrides *overrides)
{
	const char *netns = json_string_value(json_object_get(item, "netns"));
	const char *ifname = json_string_value(json_object_get(item, "ifname"));
	const char *name = json_string_value(json_object_get(item, "mode"));
	const json_t *until_reload = json_object_get(item, "until_reload");
	char netns_bytes[OVERRIDE_NAME_MAX + 1], ifname_bytes[IFNAMSIZ];
	enum maps_mode mode = MAPS_MODE_TUNNEL;
	bool understood;
	int r;

	if (!netns || !ifname ||
		(hex && (!hex_parse(netns, netns_bytes, sizeof(netns_bytes)) ||
				!hex_parse(ifname, ifname_bytes, sizeof(ifname_bytes)))))
		return -EBADMSG;
	understood = json_is_boolean(until_reload) && name && maps_mode_parse(name, &mode) == 0;
	r = overrides_set(overrides, hex ? netns_bytes : netns, hex ? ifname_bytes : ifname, mode,
		json_is_true(until_reload));
	if (r == -EINVAL || r == -E2BIG)
		return -EBADMSG;
	return r < 0 || understood ? r : -EBADMSG;
}

static int parse_list(json_t *list, bool hex, struct overrides *overrides, size_t *lost)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		int r = parse_one(item, hex, overrides);

		if (r == -EBADMSG)
			(*lost)++;
		else if (r < 0)
			return r;
	}
	return 0;
}

int overrides_parse(const char *text, size_t size, struct overrides *ret, size_t *ret_lost)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };
	json_auto_t *document = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	json_t *texts = json_object_get(document, "overrides");
	json_t *others = json_object_get(document, "overrides_hex");
	size_t lost = 0;
	int r;

	if (json_integer_value(json_object_get(document, "version")) != TEXT_VERSION ||
		!json_is_array(texts) || (others && !json_is_array(others)))
		return -EBADMSG;
	r = parse_list(texts, false, &overrides, &lost);
	if (r == 0)
		r = parse_list(others, true, &overrides, &lost);
	if (r < 0)
		return r;
	*ret = overrides;
	overrides = (struct overrides){ 0 };
	*ret_lost = lost;
	return 0;
}
