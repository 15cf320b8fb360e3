package app

import (
	"context"
	"fmt"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/spool"
)

// diskInterval is how often the disk is tried, and looked at whether the space is needed.
const diskInterval = 10 * time.Second

// How often the spool is asked what may go: a study stays days, minutes do not matter; where it stays less, they do.
const (
	mostRemoveInterval  = 5 * time.Minute
	leastRemoveInterval = time.Second
)

func retention(r configs.Retention) spool.Retention {
	return spool.Retention{
		Positive: r.Positive, Negative: r.Negative, NotAnalysed: r.NotAnalysed, Failed: r.Failed,
		KeepUnacknowledged: r.Unacknowledged == "keep",
	}
}

// removeInterval is a tenth of the shortest time that anything stays.
func removeInterval(r spool.Retention) time.Duration {
	shortest := min(r.Positive, r.Negative, r.NotAnalysed, r.Failed)
	return min(max(shortest/10, leastRemoveInterval), mostRemoveInterval)
}

// keepDisk tries whether the disk still takes anything, removes what is confirmed and old, and what is confirmed when the
// space is needed.
func (a *App) keepDisk(ctx context.Context) error {
	keep := retention(a.cfg.Spool.Retention)
	old, probe := time.NewTicker(removeInterval(keep)), time.NewTicker(diskInterval)
	defer old.Stop()
	defer probe.Stop()
	for {
		a.remove(ctx, "removed what is confirmed and older than spool.retention", func() (spool.Removed, error) {
			return a.spool.Remove(ctx, time.Now(), keep)
		})
		for again := true; again; {
			select {
			case <-ctx.Done():
				return nil
			case <-old.C:
				again = false
			case <-probe.C:
				_ = a.spool.Probe() // which tells the log, and is asked by Fit
				if wanted := a.wanted(); wanted > 0 {
					a.remove(ctx, "the space is needed: removed what is confirmed before the end of spool.retention", func() (spool.Removed, error) {
						return a.spool.MakeRoom(ctx, time.Now(), keep, wanted)
					})
				}
			}
		}
	}
}

func (a *App) remove(ctx context.Context, why string, remove func() (spool.Removed, error)) {
	switch done, err := remove(); {
	case err != nil && ctx.Err() == nil:
		a.log.Error("cannot remove what is confirmed; trying again", "err", err)
	case done.Instances > 0:
		a.log.Info(why, "instances", done.Instances, "bytes", done.Bytes)
	}
}

// wanted is how many bytes have to go so that scanners are served, with something to spare: not everything that may go is
// to go at once, and not a slice at a time.
func (a *App) wanted() int64 {
	disk, err := a.spool.Disk()
	if err != nil {
		return 0 // nobody knows
	}
	return room(disk, float64(a.cfg.Spool.HighWatermark), uint64(a.cfg.Spool.Reserve))
}

// spare is the share of the disk that is freed beyond the watermark and the reserve.
const spare = 0.05

func room(disk spool.Disk, watermark float64, reserve uint64) int64 {
	if disk.InUse() < watermark && disk.Free >= reserve {
		return 0
	}
	total, free := float64(disk.Total), float64(disk.Free)
	target := max((1-watermark)*total, float64(reserve)) + spare*total
	return int64(target - free)
}

// lookAtDisk says whether scanners are refused for the disk's sake.
func (a *App) lookAtDisk(context.Context) error {
	if err := a.spool.Fit(); err != nil {
		return err
	}
	disk, err := a.spool.Disk()
	if err != nil {
		return err
	}
	if disk.Free < uint64(a.cfg.Spool.Reserve) {
		return fmt.Errorf("%d MiB are free, less than spool.reserve: objects are refused", disk.Free>>20)
	}
	if used := disk.InUse(); used >= float64(a.cfg.Spool.HighWatermark) {
		return fmt.Errorf("%.1f %% of the disk is in use: new associations are refused; see which destination holds up removal, or give the spool more space", 100*used)
	}
	return nil
}
