/**
 * Orders per second and method, as an RxJS Observable.
 *
 *     KAFKA_BROKERS=127.0.0.1:9092 KAFKA_TLS=false npx node examples/observable.ts
 */
import { accessFrom, consumeArchive } from 'orderflow/archive';
import { bufferTime, filter, map, mergeMap } from 'rxjs';

const consumer = await consumeArchive({
  ...(await accessFrom(process.env)),
  groupId: process.env.GROUP ?? 'example-observable',
  onFinding: () => 'continue',
});

const subscription = consumer
  // A batch counts as processed when this function has returned, or its promise has resolved.
  .observe((batch) => batch.orders.map(({ method }) => method))
  .pipe(
    mergeMap((methods) => methods),
    bufferTime(1000),
    filter((methods) => methods.length > 0),
    map((methods) => Map.groupBy(methods, (method) => method)),
  )
  .subscribe((groups) => {
    console.log([...groups].map(([method, { length }]) => `${method}: ${length}`).join(', '));
  });

process.once('SIGINT', () => {
  subscription.unsubscribe();
  void consumer.close();
});
