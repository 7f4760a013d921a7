# SPDX-License-Identifier: Apache-2.0
"""Bundles for EC2, made by openssl, tar and gzip alone: what vmimg reads is none of its own doing."""

import hashlib
import os
import subprocess

from lib.process import run
from lib.harness import check, need

KEY, IV = "00112233445566778899aabbccddeeff", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def openssl(*args, stdin=b""):
    need("openssl")
    return subprocess.run(["openssl", *args], input=stdin, check=True, capture_output=True).stdout


def keypair(folder, name):
    """A private key and a certificate: paths."""
    key, cert = f"{folder}/{name}.key", f"{folder}/{name}.crt"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
            f"/CN={name}")
    return key, cert


def seal(text, cert):
    """RSA of the text by a certificate's key, in digits."""
    return openssl("pkeyutl", "-encrypt", "-certin", "-inkey", cert, "-pkeyopt", "rsa_padding_mode:pkcs1",
                   stdin=text.encode()).hex()


def make(folder, image, prefix, user, cloud, part_size=100000, quote="'", pack=("gzip", "-n"), **changes):
    """
    Bundles an image; user and cloud are keypairs. Returns the manifest's path. changes: fields of the
    manifest that shall be other than true, and parts (a function that edits the list of XML parts).
    """
    name = os.path.basename(image)
    tar = subprocess.run(["tar", "-c", "-S", "--format=oldgnu", "--owner=0", "--group=0", "-C", os.path.dirname(image), name],
                         check=True, capture_output=True).stdout
    packed = subprocess.run(pack, input=tar, check=True, capture_output=True).stdout
    sealed = openssl("enc", "-aes-128-cbc", "-K", KEY, "-iv", IV, stdin=packed)
    parts = []
    for i, at in enumerate(range(0, len(sealed), part_size)):
        piece = sealed[at:at + part_size]
        part = f"{prefix}.part.{i}"
        with open(f"{folder}/{part}", "wb") as file:
            file.write(piece)
        parts.append(f"<part index={quote}{i}{quote}><filename>{part}</filename><digest algorithm={quote}SHA1{quote}>"
                     f"{hashlib.sha1(piece).hexdigest()}</digest></part>")
    count = len(parts)
    parts = changes.pop("parts", lambda list_: list_)(parts)
    values = {"version": "2007-10-10", "size": os.path.getsize(image), "bundled": len(sealed),
              "digest": hashlib.sha1(tar).hexdigest(), "count": count, "type": "machine", "user": "123456789012",
              **changes}
    aes = f"algorithm={quote}AES-128-CBC{quote}"
    machine = ("<machine_configuration><architecture>x86_64</architecture><block_device_mapping><mapping><virtual>ami"
               "</virtual><device>sda1</device></mapping><mapping><virtual>swap</virtual><device>sda3</device></mapping>"
               "</block_device_mapping><kernel_id>aki-1</kernel_id><ramdisk_id>ari-1</ramdisk_id><product_codes>"
               "<product_code>774F4FF8</product_code></product_codes></machine_configuration>")
    body = (f"<image><name>{prefix}</name><user>{values['user']}</user><type>{values['type']}</type>"
            f"<digest algorithm={quote}SHA1{quote}>{values['digest']}</digest><size>{values['size']}</size>"
            f"<bundled_size>{values['bundled']}</bundled_size>"
            f"<ec2_encrypted_key {aes}>{seal(KEY, cloud[1])}</ec2_encrypted_key>"
            f"<user_encrypted_key {aes}>{seal(KEY, user[1])}</user_encrypted_key>"
            f"<ec2_encrypted_iv>{seal(IV, cloud[1])}</ec2_encrypted_iv>"
            f"<user_encrypted_iv>{seal(IV, user[1])}</user_encrypted_iv>"
            f"<parts count={quote}{values['count']}{quote}>{''.join(parts)}</parts></image>")
    signature = openssl("dgst", "-sha1", "-sign", user[0], stdin=(machine + body).replace('"', "'").encode()).hex()
    text = (f"<?xml version='1.0'?><manifest><version>{values['version']}</version><bundler><name>test</name>"
            f"<version>1</version><release>1</release></bundler>{machine}{body}<signature>{signature}</signature></manifest>")
    path = f"{folder}/{prefix}.manifest.xml"
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path
