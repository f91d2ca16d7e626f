// Makes a file smaller. With blocksd's own package, which reads and publishes files piece by piece.

import { pipeline } from 'node:stream';
import { createGzip } from 'node:zlib';

import { serve } from '@blocksd/handler';

serve({
  name: 'compress',
  run(task) {
    const body = createGzip();
    pipeline(task.file('file'), body, () => {}); // an error of one is one of the other
    return { body, mimeType: 'application/gzip', fileName: 'compressed.gz', outputId: 'compressed' };
  },
});
