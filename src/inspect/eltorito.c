/* SPDX-License-Identifier: Apache-2.0 */
/* Boot catalogues ("El Torito" Bootable CD-ROM Format Specification 1.0): a validation entry with a
 * checksum, a default entry, and sections of more. */
#include "inspect/iso9660.h"
#include "util/bytes.h"
#include "util/num.h"

#define ENTRY     32U
#define MAX_SLOTS 64U /* one sector */

static bool is_valid(const uint8_t *entry)
{
	uint16_t sum = 0;

	for (unsigned i = 0; i < ENTRY; i += 2)
		sum = (uint16_t)(sum + vmimg_get_le16(entry + i));
	return entry[0] == 1 && entry[30] == 0x55 && entry[31] == 0xaa && !sum;
}

static struct vmimg_boot_entry entry_of(const uint8_t *e, uint8_t platform)
{
	return (struct vmimg_boot_entry){ .platform = platform,
		.media = e[1] & 15,
		.bootable = e[0] == 0x88,
		.at = (uint64_t)vmimg_get_le32(e + 8) * VMIMG_ISO_SECTOR,
		.len = (uint64_t)vmimg_get_le16(e + 6) * 512 };
}

int vmimg_eltorito_read(struct vmimg_io *io, uint32_t catalogue, struct vmimg_boot_entry *entries,
	size_t *count, struct vmimg_error *err)
{
	uint8_t sector[VMIMG_ISO_SECTOR], platform;
	unsigned left = 1; /* entries of the section at hand */
	size_t found = 0;
	bool last = false;

	if (vmimg_io_pread(io, sector, sizeof(sector), (uint64_t)catalogue * VMIMG_ISO_SECTOR, err))
		return -1;
	if (!is_valid(sector))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the boot catalogue in sector %u has no valid first entry", catalogue);
	platform = sector[1];
	for (unsigned i = 1; i < MAX_SLOTS && found < VMIMG_BOOT_ENTRIES; i++) {
		const uint8_t *e = sector + ENTRY * i;

		if (left) {
			entries[found++] = entry_of(e, platform);
			left--;
		} else if (e[0] == 0x44) { /* goes on with the entry before */
			continue;
		} else if (!last && (e[0] == 0x90 || e[0] == 0x91)) {
			last = e[0] == 0x91;
			platform = e[1];
			left = vmimg_get_le16(e + 2);
		} else {
			break;
		}
	}
	*count = found;
	return 0;
}
