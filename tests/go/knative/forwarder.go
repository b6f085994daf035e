package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	coordinationinformers "k8s.io/client-go/informers/coordination/v1"
	"k8s.io/client-go/kubernetes/fake"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	"k8s.io/client-go/tools/cache"
	leases "k8s.io/client-go/tools/cache/testing"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	leaseinformer "knative.dev/pkg/client/injection/kube/informers/coordination/v1/lease"
	endpointsliceinformer "knative.dev/pkg/client/injection/kube/informers/discovery/v1/endpointslice"
	"knative.dev/pkg/hash"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/system"
	"knative.dev/serving/pkg/autoscaler/bucket"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/statforwarder"
)

// source supplies the leases.
type source struct {
	*leases.FakeControllerSource
}

// IsWatchListSemanticsUnSupported tells client-go that this source sends no bookmarks.
func (source) IsWatchListSemanticsUnSupported() bool { return true }

// leaseInformer is an informer whose leases come from a source instead of an API server.
type leaseInformer struct {
	cache.SharedIndexInformer
}

var _ coordinationinformers.LeaseInformer = leaseInformer{}

func (i leaseInformer) Informer() cache.SharedIndexInformer { return i.SharedIndexInformer }

func (i leaseInformer) Lister() coordinationlisters.LeaseLister {
	return coordinationlisters.NewLeaseLister(i.GetIndexer())
}

// forward sends a stat of each bucket to the bucket's owner at every interval, as cmd/autoscaler
// does. Lines of "NUMBER POD_IP" on owners say who owns a bucket.
func forward(ctx context.Context, buckets uint32, every time.Duration, owners io.Reader, logger *zap.SugaredLogger) error {
	set := bucket.AutoscalerBucketSet(buckets)
	supplied := source{leases.NewFakeControllerSource()}
	informer := leaseInformer{cache.NewSharedIndexInformer(supplied, &coordinationv1.Lease{}, 0, cache.Indexers{})}

	// The owner of a bucket makes a Service for it, and an EndpointSlice if there is none.
	client := fake.NewClientset()
	slices := informers.NewSharedInformerFactory(client, 0).Discovery().V1().EndpointSlices()
	ctx = logging.WithLogger(ctx, logger)
	ctx = context.WithValue(ctx, kubeclient.Key{}, client)
	ctx = context.WithValue(ctx, leaseinformer.Key{}, informer)
	ctx = context.WithValue(ctx, endpointsliceinformer.Key{}, slices)

	forwarder := statforwarder.New(ctx, set)
	accept := func(metrics.StatMessage) { report("accepted", nil) }
	if err := statforwarder.LeaseBasedProcessor(ctx, forwarder, accept); err != nil {
		return err
	}
	go informer.Run(ctx.Done())
	go readOwners(owners, buckets, supplied)
	go keepForwarding(ctx, every, forwarder, set)
	return nil
}

// readOwners turns each line into a lease.
func readOwners(lines io.Reader, buckets uint32, to source) {
	known := map[uint32]bool{}
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		var number uint32
		var ip string
		if _, err := fmt.Sscan(scanner.Text(), &number, &ip); err != nil {
			report("log", fields{"level": "error", "message": err.Error()})
			continue
		}
		holder := "autoscaler-" + strings.NewReplacer(".", "-", ":", "-").Replace(ip) + "_" + ip
		lease := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: system.Namespace(),
				Name:      bucket.AutoscalerBucketName(number, buckets),
			},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder},
		}
		if known[number] {
			to.Modify(lease)
		} else {
			to.Add(lease)
		}
		known[number] = true
		report("owner", fields{"bucket": number, "ip": ip})
	}
}

// keepForwarding gives the forwarder a stat of one revision in each bucket, at every interval.
func keepForwarding(ctx context.Context, every time.Duration, to *statforwarder.Forwarder, buckets *hash.BucketSet) {
	revisions := map[string]types.NamespacedName{}
	for n := 0; len(revisions) < len(buckets.Buckets()); n++ {
		revision := types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("busy-%05d", n)}
		revisions[buckets.Owner(revision.String())] = revision
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			to.Cancel()
			return
		case <-ticker.C:
			for _, revision := range revisions {
				to.Process(metrics.StatMessage{Key: revision, Stat: metrics.Stat{RequestCount: 1}})
			}
		}
	}
}
