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

// source is where leases are told.
type source struct {
	*leases.FakeControllerSource
}

// IsWatchListSemanticsUnSupported is asked by client-go: there are no bookmarks.
func (source) IsWatchListSemanticsUnSupported() bool { return true }

// leaseInformer is an informer of leases that are told, not watched.
type leaseInformer struct {
	cache.SharedIndexInformer
}

var _ coordinationinformers.LeaseInformer = leaseInformer{}

func (i leaseInformer) Informer() cache.SharedIndexInformer { return i.SharedIndexInformer }

func (i leaseInformer) Lister() coordinationlisters.LeaseLister {
	return coordinationlisters.NewLeaseLister(i.GetIndexer())
}

// forward forwards a stat for each bucket, at every interval, to the owner of the bucket, as
// cmd/autoscaler does. Who owns a bucket is told as lines of "NUMBER POD_IP".
func forward(ctx context.Context, buckets uint32, every time.Duration, owners io.Reader, logger *zap.SugaredLogger) error {
	set := bucket.AutoscalerBucketSet(buckets)
	told := source{leases.NewFakeControllerSource()}
	informer := leaseInformer{cache.NewSharedIndexInformer(told, &coordinationv1.Lease{}, 0, cache.Indexers{})}

	// Of a bucket of its own, an owner makes a Service, and a slice of endpoints if it has none.
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
	go tell(owners, buckets, told)
	go keepForwarding(ctx, every, forwarder, set)
	return nil
}

// tell makes a lease of each line.
func tell(lines io.Reader, buckets uint32, to source) {
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

// keepForwarding hands the forwarder a stat of a revision in each bucket.
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
