/* SPDX-License-Identifier: Apache-2.0 */
/* The tables. */
#include "bundle/ovf/dialect.h"
#include <string.h>
#include <strings.h>
#include "util/num.h"

static const struct vmimg_ovf_dialect dialects[] = {
	{ "ova-generic", "vmx-13", "sha256", VMIMG_BUS_SCSI, true, false, false, false },
	{ "ova-vmware", "vmx-13", "sha256", VMIMG_BUS_SCSI, true, false, true, false },
	{ "ova-virtualbox", "virtualbox-2.2", "sha256", VMIMG_BUS_SATA, true, true, false, true },
	{ "ova-ovirt", "vmx-13", "sha256", VMIMG_BUS_SCSI, true, false, false, false },
};

const struct vmimg_ovf_dialect *vmimg_ovf_dialect(const char *target)
{
	if (!target)
		return &dialects[0];
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(dialects); i++)
		if (!strcmp(dialects[i].target, target))
			return &dialects[i];
	return NULL;
}

static const struct vmimg_ovf_os systems[] = {
	{ "linux", 101, "other5xLinux64Guest", "Linux_64", "Linux, 64 bit" },
	{ "other", 102, "otherGuest64", "Other_64", "Other, 64 bit" },
	{ "ubuntu", 94, "ubuntu64Guest", "Ubuntu_64", "Ubuntu, 64 bit" },
	{ "debian", 96, "debian10_64Guest", "Debian_64", "Debian, 64 bit" },
	{ "rhel", 80, "rhel8_64Guest", "RedHat_64", "Red Hat Enterprise Linux, 64 bit" },
	{ "centos", 107, "centos8_64Guest", "RedHat_64", "CentOS, 64 bit" },
	{ "sles", 85, "sles15_64Guest", "OpenSUSE_64", "SUSE Linux Enterprise, 64 bit" },
	{ "windows10", 121, "windows9_64Guest", "Windows10_64", "Windows 10, 64 bit" },
	{ "windows2016", 117, "windows9Server64Guest", "Windows2016_64", "Windows Server 2016" },
	{ "windows2012", 113, "windows8Server64Guest", "Windows2012_64", "Windows Server 2012" },
	{ "windows7", 105, "windows7_64Guest", "Windows7_64", "Windows 7, 64 bit" },
	{ "linux32", 36, "otherLinuxGuest", "Linux", "Linux" },
};

static bool is_name(const char *name, const char *hint)
{
	return !strcasecmp(name, hint);
}

const struct vmimg_ovf_os *vmimg_ovf_os(const char *hint, unsigned id)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(systems); i++) {
		const struct vmimg_ovf_os *os = &systems[i];

		if (hint ? is_name(os->name, hint) || is_name(os->vmware, hint) ||
					is_name(os->virtualbox, hint)
			 : os->id == id)
			return os;
	}
	return NULL;
}

const char *vmimg_ovf_model(const struct vmimg_ovf_dialect *dialect, enum vmimg_bus bus)
{
	switch (bus) {
	case VMIMG_BUS_SCSI:
	case VMIMG_BUS_VIRTIO:
		return "lsilogic";
	case VMIMG_BUS_SATA:
		return dialect->family_virtualbox ? "AHCI" : "vmware.sata.ahci";
	case VMIMG_BUS_NVME:
		return dialect->family_virtualbox ? "NVMe" : "vmware.nvme.controller";
	case VMIMG_BUS_IDE:
		return dialect->family_virtualbox ? "PIIX4" : NULL;
	default:
		return NULL;
	}
}

unsigned vmimg_ovf_resource_type(enum vmimg_bus bus)
{
	switch (bus) {
	case VMIMG_BUS_IDE:
		return 5;
	case VMIMG_BUS_SCSI:
	case VMIMG_BUS_VIRTIO:
		return 6;
	default:
		return 20;
	}
}

/* Unit 7 of SCSI is the controller itself. */
unsigned vmimg_ovf_units(enum vmimg_bus bus)
{
	return bus == VMIMG_BUS_IDE ? 2 : bus == VMIMG_BUS_SATA ? 30 : 15;
}

unsigned vmimg_ovf_unit_number(enum vmimg_bus bus, unsigned nth)
{
	return vmimg_ovf_resource_type(bus) == 6 && nth >= 7 ? nth + 1 : nth;
}
