//go:build linux

package systemd_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernelPackage depends on the newest kernel of the suite. NVMe and ext4 are built into it, so that it boots without modules
// and without an initial RAM disk; installing it would need the tools for one.
const kernelPackage = "linux-image-cloud-amd64"

// fetchKernel takes the kernel alone out of Debian's package, which it looks up in the lists that debootstrap has verified.
func fetchKernel(ctx context.Context, mirror, tree, to string) error {
	lists, err := filepath.Glob(filepath.Join(tree, "var/lib/apt/lists/*_main_binary-amd64_Packages"))
	if err != nil || len(lists) != 1 {
		return fmt.Errorf("look for the kernel: debootstrap left %d lists of packages, %w", len(lists), err)
	}
	f, err := os.Open(lists[0])
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := stanzas(f, func(name string) bool { return strings.HasPrefix(name, "linux-image-") })
	if err != nil {
		return fmt.Errorf("read %s: %w", lists[0], err)
	}
	name, _, _ := strings.Cut(found[kernelPackage]["Depends"], " ")
	kernel := found[name]
	if kernel["Filename"] == "" || kernel["SHA256"] == "" {
		return fmt.Errorf("look for the kernel: %s depends on %q, which is not in %s", kernelPackage, name, lists[0])
	}
	deb := to + ".deb"
	if err := fetch(ctx, mirror+"/"+kernel["Filename"], kernel["SHA256"], deb); err != nil {
		return err
	}
	defer os.Remove(deb)
	return extract(ctx, deb, "./boot/vmlinuz-*", to)
}

// stanzas reads the fields of the packages that are wanted, by their names. Only first lines of fields are kept.
func stanzas(r io.Reader, wanted func(name string) bool) (map[string]map[string]string, error) {
	all, fields := map[string]map[string]string{}, map[string]string{}
	keep := func() {
		if wanted(fields["Package"]) {
			all[fields["Package"]] = maps.Clone(fields)
		}
		clear(fields)
	}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if in.Text() == "" {
			keep()
		} else if key, value, ok := strings.Cut(in.Text(), ": "); ok && !strings.HasPrefix(key, " ") {
			fields[key] = value
		}
	}
	keep()
	return all, in.Err()
}

func fetch(ctx context.Context, url, sum, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("fetch the kernel: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch %s: HTTP %s", url, resp.Status)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), resp.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fetch %s: %w", url, err)
	}
	if got := fmt.Sprintf("%x", hash.Sum(nil)); got != sum {
		return fmt.Errorf("fetch %s: its checksum is %s and should be %s", url, got, sum)
	}
	return nil
}

// extract writes the one file of a package that matches a pattern.
func extract(ctx context.Context, deb, pattern, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	// tar stops reading at the end of the archive only, so the whole package is unpacked.
	cmd := exec.CommandContext(ctx, "sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards "$2"`, "sh", deb, pattern)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("take %s out of %s: %w %s", pattern, deb, err, said.String())
	}
	return nil
}
