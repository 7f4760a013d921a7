/* SPDX-License-Identifier: Apache-2.0 */
/* For whom an OVF can be made. */
#pragma once

#define VMIMG_OVF_TARGETS "ova-generic, ova-vmware, ova-virtualbox, ova-ovirt"
